package pgfx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/rdsfx-go/rdsfx/internal/deadline"
)

// Start connects to the database, opens the gate and runs the setup steps, as Config.Start.Mode requires. Call it once; a
// second call returns an error. If Start fails, it closes the DB.
//
// Start keeps ctx only until it returns. To leave time for cleaning up, it gives up before the deadline of ctx. The margin is
// 10 % of the time left or 500 ms, whichever is more.
//
// If the database cannot be reached, the error is a [*ConnectError]. A failed setup step returns its own error with the name
// of the step. After Close the error is [ErrClosed].
func (db *DB) Start(ctx context.Context) error {
	if db.closed.Load() {
		return ErrClosed
	}
	if !db.started.CompareAndSwap(false, true) {
		return errors.New("pgfx: start: already started")
	}
	db.logConfig(db.configWarnings)
	outer := ctx
	ctx, cancel := db.startContext(ctx)
	defer cancel()
	err := db.start(ctx)
	if err == nil {
		return nil
	}
	closeCtx, cancelClose := deadline.WithMargin(outer)
	defer cancelClose()
	if closeErr := db.Close(closeCtx); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err
}

func (db *DB) start(ctx context.Context) error {
	began := time.Now()
	ctx = context.WithValue(ctx, setupKey{}, db)
	switch db.config.Start.Mode {
	case StartLazy:
		db.gate.Open()
		db.startInBackground()
		return nil
	case StartOptional:
		if err := db.connectOnce(ctx); err != nil {
			db.gate.Close(err)
			db.logger.Warn("started without the database; connecting in the background", zap.Error(err))
			db.startInBackground()
			return nil
		}
	case StartRequire:
		if err := db.connectWithRetry(ctx); err != nil {
			return err
		}
	}
	if err := db.runSetup(ctx); err != nil {
		return err
	}
	db.logger.Info("database ready", zap.String("target", db.target), zap.Duration("took", time.Since(began)))
	return nil
}

// startContext bounds a start by Config.Start.Timeout and, with a margin for cleaning up, by ctx.
func (db *DB) startContext(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := db.config.Start.Timeout
	if _, hasDeadline := ctx.Deadline(); timeout == 0 && !hasDeadline {
		timeout = defaultStartTimeout
	}
	ctx, cancel := deadline.WithMargin(ctx)
	if timeout == 0 {
		return ctx, cancel
	}
	ctx, cancelTimeout := context.WithTimeout(ctx, timeout)
	return ctx, func() { cancelTimeout(); cancel() }
}

// connectOnce makes one attempt: it pings the server, opens the gate and opens the pool's first connections.
func (db *DB) connectOnce(ctx context.Context) error {
	if err := db.pingServer(ctx); err != nil {
		return err
	}
	db.gate.Open()
	if err := db.openMinConns(ctx); err != nil {
		db.gate.Close(err)
		return db.connectError(err)
	}
	return nil
}

// pingServer opens a connection outside the pool, where the closed gate does not matter, and pings the server. The ping
// detects servers that accept connections and then terminate them.
func (db *DB) pingServer(ctx context.Context) error {
	conn, err := db.Connect(ctx, "start")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // no longer needed, whatever the error
	if err := conn.Ping(ctx); err != nil {
		return db.connectError(err)
	}
	return nil
}

// openMinConns opens the pool's minimum of connections, and at least one.
func (db *DB) openMinConns(ctx context.Context) error {
	conns := make([]*pgxpool.Conn, max(1, db.pool.Config().MinConns))
	group, ctx := errgroup.WithContext(ctx)
	for i := range conns {
		group.Go(func() error {
			conn, err := db.pool.Acquire(ctx)
			conns[i] = conn
			return err //nolint:wrapcheck // becomes a ConnectError
		})
	}
	err := group.Wait()
	for _, conn := range conns {
		if conn != nil {
			conn.Release()
		}
	}
	return err //nolint:wrapcheck // becomes a ConnectError
}

// connectWithRetry calls connectOnce until it succeeds, ctx ends or a retry cannot help.
func (db *DB) connectWithRetry(ctx context.Context) error {
	retries := db.startPolicy().Begin()
	var last *ConnectError
	for {
		err := db.connectOnce(ctx)
		if err == nil {
			return nil
		}
		connect, ok := errors.AsType[*ConnectError](err)
		if !ok {
			return err
		}
		if last == nil || !expired(ctx) { // the error of an attempt that ran out of time explains less than the one before
			last = connect
		}
		last.Attempts, last.Elapsed = retries.Attempts(), retries.Elapsed()
		if attempt := retries.Attempts(); attempt&(attempt-1) == 0 { // 1, 2, 4, 8, so a long wait does not flood the log
			db.logger.Warn("connect attempt failed", zap.Int("attempt", attempt), timeLeft(ctx), zap.Error(last))
		}
		if !retries.NextAfter(ctx, connect) {
			return last
		}
	}
}

// timeLeft returns the log field with the time until the deadline of ctx.
func timeLeft(ctx context.Context) zap.Field {
	deadline, ok := ctx.Deadline()
	if !ok {
		return zap.Skip()
	}
	return zap.Duration("time_left", time.Until(deadline))
}

// startPolicy returns the retry policy of a start. Attempts are limited only if the configuration sets a limit, and need no
// budget, because there are no other calls yet.
func (db *DB) startPolicy() RetryPolicy {
	policy := db.retry
	policy.MaxElapsed, policy.Budget = Off, nil
	if db.config.Retry.MaxAttempts == 0 {
		policy.MaxAttempts = Off
	}
	return policy
}

// expired reports whether ctx has ended or its deadline has passed. A dial that hits the deadline may return before the timer
// of ctx fires.
func expired(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// minRemaining is the time left below which another attempt is not worth making.
const minRemaining = 20 * time.Millisecond

// sleep waits for d, or for half of the time that ctx has left if that is less. It returns false if ctx has ended or is about
// to end.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left < minRemaining {
			return false
		}
		d = min(d, left/2) //nolint:mnd // half
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// runSetup finds out the topology, runs the setup steps in their order and marks the DB as initialized.
func (db *DB) runSetup(ctx context.Context) error {
	steps := slices.SortedStableFunc(slices.Values(db.options.setups), func(a, b SetupStep) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	if db.options.topology != nil {
		if err := db.options.topology(ctx, db); err != nil {
			return err
		}
	}
	for _, step := range steps {
		if step.Run == nil {
			return fmt.Errorf("pgfx: setup step %q has no Run function: set it", step.Name)
		}
		began := time.Now()
		if err := step.Run(ctx, db); err != nil {
			return fmt.Errorf("pgfx: setup step %q: %w", step.Name, err)
		}
		if err := db.reloadTypes(ctx); err != nil { // the step may have created types that the next step needs
			return err
		}
		db.logger.Debug("setup step done", zap.String("setup", step.Name), zap.Duration("took", time.Since(began)))
	}
	if err := db.requireTypes(); err != nil {
		return err
	}
	db.initialized.Store(true)
	db.gate.finishSetup()
	close(db.ready)
	return nil
}

// AwaitReady waits until the database has been reached and all setup steps, the schema check included, have run. Background
// loops call it first, because [StartOptional] and [StartLazy] start the application earlier. It returns nil at once if the
// setup is done, even while the database is down.
//
// If ctx ends first, the error matches ctx's error and names what the start waits for. After [DB.Close] it is [ErrClosed].
func (db *DB) AwaitReady(ctx context.Context) error {
	select {
	case <-db.ready:
		return nil
	default:
	}
	select {
	case <-db.ready:
		return nil
	case <-db.lifetime.Done():
		return ErrClosed
	case <-ctx.Done():
	}
	notReady := db.gate.Err()
	if notReady == nil { // the setup has just been done
		return nil
	}
	return fmt.Errorf("pgfx: database not ready: %w; %w", context.Cause(ctx), notReady)
}

// startInBackground connects and runs the setup steps in a goroutine, and retries until both succeed or the DB is closed.
func (db *DB) startInBackground() {
	db.background.Go(func() {
		policy, logged := db.startPolicy(), ""
		policy.MaxAttempts = Off
		retries := policy.Begin()
		setupCtx := context.WithValue(db.lifetime, setupKey{}, db)
		for {
			err := db.connectOnce(setupCtx)
			if err == nil {
				err = db.runSetup(setupCtx)
			}
			if err == nil {
				db.logger.Info("database ready", zap.String("target", db.target), zap.Duration("took", retries.Elapsed()),
					zap.Int("attempts", retries.Attempts()))
				return
			}
			if db.lifetime.Err() != nil {
				return
			}
			db.gate.Close(fmt.Errorf("%w; last attempt: %w", ErrSetupNotFinished, err))
			if text := err.Error(); text != logged { // log each failure once, not each attempt
				db.logger.Warn("database not ready; retrying", zap.Int("attempt", retries.Attempts()), zap.Error(err))
				logged = text
			}
			if !retries.Next(db.lifetime) {
				return
			}
		}
	})
}
