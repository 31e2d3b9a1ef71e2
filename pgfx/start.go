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

// Start connects, opens the gate and runs the setup, as Config.Start.Mode says. It keeps ctx only until it returns and
// gives up max(10 %, 500 ms) before ctx's deadline, so that whoever has to clean up has time to. A start that fails has
// closed the DB. A DB is started once; a second Start is an error.
//
// Errors: [*ConnectError] when the database can't be reached, [ErrClosed], and what a setup step returned, with its name.
func (db *DB) Start(ctx context.Context) error {
	if db.closed.Load() {
		return ErrClosed
	}
	if !db.started.CompareAndSwap(false, true) {
		return errors.New("pgfx: start: the database handle was started before")
	}
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
	switch db.config.Start.Mode {
	case StartLazy:
		db.gate.Open()
		db.inBackground()
		return nil
	case StartOptional:
		if err := db.reach(ctx); err != nil {
			db.gate.Close(err)
			db.logger.Warn("started without the database; connecting goes on in the background", zap.Error(err))
			db.inBackground()
			return nil
		}
	case StartRequire:
		if err := db.connectUntil(ctx); err != nil {
			return err
		}
	}
	if err := db.setUp(ctx); err != nil {
		return err
	}
	db.logger.Info("database ready", zap.String("target", db.target), zap.Duration("took", time.Since(began)))
	return nil
}

// startContext bounds a start: by Config.Start.Timeout and, with a margin for cleaning up, by ctx.
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

// reach makes one attempt: a connection that answers, then the gate, then the pool's first connections.
func (db *DB) reach(ctx context.Context) error {
	if err := db.look(ctx); err != nil {
		return err
	}
	db.gate.Open()
	if err := db.warm(ctx); err != nil {
		db.gate.Close(err)
		return newConnectError(db.target, err)
	}
	return nil
}

// look opens a connection past the gate and asks it for an answer, for there are servers that accept and then kill.
func (db *DB) look(ctx context.Context) error {
	conn, err := db.Connect(ctx, "start")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served its purpose
	if err := conn.Ping(ctx); err != nil {
		return newConnectError(db.target, err)
	}
	return nil
}

// warm opens the pool's minimum of connections, and one at least.
func (db *DB) warm(ctx context.Context) error {
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

// connectUntil tries to reach the database until it can, ctx ends, or trying again is pointless.
func (db *DB) connectUntil(ctx context.Context) error {
	retries := db.startPolicy().Begin()
	var last *ConnectError
	for {
		err := db.reach(ctx)
		if err == nil {
			return nil
		}
		connect, ok := errors.AsType[*ConnectError](err)
		if !ok {
			return err
		}
		if last == nil || !over(ctx) { // what an attempt says that ran out of time tells less than the one before
			last = connect
		}
		last.Attempts, last.Elapsed = retries.Attempts(), retries.Elapsed()
		if !retries.Again(ctx, connect) {
			return last
		}
	}
}

// startPolicy is what connecting goes by while starting: it takes as many attempts as the time allows, unless the
// configuration says how many, and needs no budget, because there are no other calls yet.
func (db *DB) startPolicy() RetryPolicy {
	policy := db.retry
	policy.MaxElapsed, policy.Budget = Off, nil
	if db.config.Retry.MaxAttempts == 0 {
		policy.MaxAttempts = Off
	}
	return policy
}

// over reports whether ctx has ended or is about to: a dial that ran into its deadline may return before ctx's own timer fires.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// leastWait is the time below which another attempt before the deadline is not worth making.
const leastWait = 20 * time.Millisecond

// sleep waits for d, or for half of what is left of ctx when that is less. It returns false when ctx is over.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left < leastWait {
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

// setUp runs the setup steps in their order. After them the DB counts as initialized.
func (db *DB) setUp(ctx context.Context) error {
	steps := slices.SortedStableFunc(slices.Values(db.options.setups), func(a, b SetupStep) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	for _, step := range steps {
		if step.Run == nil {
			return fmt.Errorf("pgfx: setup %q has no Run: give it the function that does the work", step.Name)
		}
		began := time.Now()
		if err := step.Run(ctx, db); err != nil {
			return fmt.Errorf("pgfx: setup %q: %w", step.Name, err)
		}
		if err := db.learnTypes(ctx); err != nil { // the step may have made them, and the next may need them
			return err
		}
		db.logger.Debug("setup done", zap.String("setup", step.Name), zap.Duration("took", time.Since(began)))
	}
	if err := db.requireTypes(); err != nil {
		return err
	}
	db.initialized.Store(true)
	return nil
}

// inBackground connects and sets up without anybody waiting, until both have succeeded or the DB is closed.
func (db *DB) inBackground() {
	db.background.Go(func() {
		policy, logged := db.startPolicy(), ""
		policy.MaxAttempts = Off
		retries := policy.Begin()
		for {
			err := db.reach(db.lifetime)
			if err == nil {
				err = db.setUp(db.lifetime)
			}
			if err == nil {
				db.logger.Info("database ready", zap.String("target", db.target), zap.Duration("took", retries.Elapsed()),
					zap.Int("attempts", retries.Attempts()))
				return
			}
			if db.lifetime.Err() != nil {
				return
			}
			if text := err.Error(); text != logged { // one line for each failure, not for each attempt
				db.logger.Warn("database not ready yet; trying again", zap.Int("attempt", retries.Attempts()), zap.Error(err))
				logged = text
			}
			if !retries.Next(db.lifetime) {
				return
			}
		}
	})
}
