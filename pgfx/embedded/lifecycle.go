package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/redact"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// Start starts the server and returns when it accepts connections. If the server is running, Start does nothing. It may be
// called again after [Server.Stop] or after the server has died. It waits for an external server instead of starting one.
//
// If the machine has no PostgreSQL, the first Start downloads it; see [Download]. A download that ctx interrupts is continued by
// the next Start.
//
// Start fails a little before ctx's deadline, or after a minute if ctx has none, so that it can clean up. Without a deadline, a
// download may take 10 minutes more. The server outlives ctx.
func (s *Server) Start(ctx context.Context) error {
	if s.disabled {
		return nil
	}
	if s.external != nil {
		work, _, cancel := startContext(ctx, startTimeout)
		defer cancel()
		return s.awaitExternal(work)
	}
	if s.spec.Shared != nil {
		return s.checkLease()
	}
	if err := s.acquireLock(ctx); err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	defer s.releaseLock()
	if err := s.fetch(ctx); err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	work, grace, cancel := startContext(ctx, startTimeout)
	defer cancel()
	if process := s.currentKeeper(); process != nil && !process.Ended() {
		if !postgres.HasEnded(process.ServerPID()) {
			return nil
		}
		select { // the server has died, and its keeper is removing the directory
		case <-process.Done():
		case <-work.Done():
			return fmt.Errorf("embedded: start: the server has died and its keeper is still cleaning up: %w", context.Cause(work))
		}
	}
	began := time.Now()
	process, err := s.spawn(*s.spec, s.log)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	if err := process.AwaitReady(work, grace); err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	s.setKeeper(process)
	s.log.Info("postgres started", append(s.logFields(process.ServerPID(), began), zap.Int("keeper_pid", process.PID()))...)
	return nil
}

// fetch downloads server binaries if this machine has none.
func (s *Server) fetch(ctx context.Context) error {
	if s.source == nil || s.spec.Installation.BinDir != "" {
		return nil
	}
	work, _, cancel := startContext(ctx, downloadTimeout)
	defer cancel()
	installation, err := s.source.Fetch(work, s.spec.User, s.log)
	if err != nil {
		return fmt.Errorf("%w on this machine, and none could be downloaded: %w; as another way, %s", ErrNotFound, err, postgres.InstallAdvice())
	}
	s.spec.Installation = installation
	return nil
}

func (s *Server) logFields(pid int, began time.Time) []zap.Field {
	return []zap.Field{
		zap.String("version", s.spec.Installation.Version), zap.String("bin_dir", s.spec.Installation.BinDir),
		zap.String("data_dir", s.spec.DataDir), zap.Int("pid", pid), zap.Duration("took", time.Since(began)),
	}
}

// startContext returns a context that ends before ctx does, or after limit if ctx has no deadline. The grace remains for cleaning
// up, because Fx runs no stop hook after its deadline. It is 10 % of the remaining time, but at least 500 ms and at most 50 %.
func startContext(ctx context.Context, limit time.Duration) (work context.Context, grace time.Duration, cancel context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		work, cancel = context.WithTimeoutCause(ctx, limit,
			fmt.Errorf("the server is not ready after %s: %w", limit, context.DeadlineExceeded))
		return work, postgres.KillTimeout, cancel
	}
	left := max(time.Until(deadline), 0)
	grace = min(max(left/10, 500*time.Millisecond), left/2)
	work, cancel = context.WithDeadline(ctx, deadline.Add(-grace))
	return work, grace, cancel
}

// awaitExternal waits until the external server accepts a connection. It fails immediately if the server refuses the login.
func (s *Server) awaitExternal(ctx context.Context) error {
	if len(s.unused) > 0 {
		s.log.Info("options don't apply to an external server", zap.String("variable", EnvURL), zap.Strings("options", s.unused))
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := pgconn.Connect(ctx, *s.external)
		if err == nil {
			_ = conn.Close(ctx)
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != sqlstate.CannotConnectNow || ctx.Err() != nil {
			return externalError(err)
		}
		select {
		case <-ctx.Done():
			return externalError(err)
		case <-ticker.C:
		}
	}
}

func externalError(err error) error {
	return fmt.Errorf("embedded: connect to the server of %s: %w; start it, correct the URL, or unset the variable to use a local server",
		EnvURL, redactedError{err})
}

// redactedError masks secrets in the text of an error.
type redactedError struct{ err error }

func (e redactedError) Error() string { return redact.ConnString(e.err.Error()) }
func (e redactedError) Unwrap() error { return e.err }

// Stop stops the server and removes its directory. If the server isn't running or is external, Stop does nothing. For a shared
// server, it releases this process's lease.
//
// Stop requests a fast shutdown, then an immediate one, and finally kills the server. Each step takes its part of the time
// until ctx's deadline, or of a minute if ctx has none. If the fast shutdown doesn't suffice, Stop returns an error, but the
// server is gone. If ctx ends first, Stop returns its cause and the keeper finishes the shutdown.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.acquireLock(ctx); err != nil {
		// Another call is starting or stopping the server. If its keeper is known, it stops nevertheless.
		if process := s.currentKeeper(); process != nil {
			process.Abandon()
		}
		return fmt.Errorf("embedded: stop: %w", err)
	}
	defer s.releaseLock()
	s.releaseLease()
	process := s.currentKeeper()
	if process == nil {
		return nil
	}
	if process.Ended() {
		s.setKeeper(nil)
		return nil
	}
	plan := stopPlan(ctx)
	process.Stop(plan)
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.Abandon()
		return fmt.Errorf("embedded: stop: the server is still running and its keeper continues to stop it: %w", context.Cause(ctx))
	}
	s.setKeeper(nil)
	mode, err := process.Result()
	switch {
	case err != nil:
		return fmt.Errorf("embedded: stop: %w", err)
	case mode == postgres.Immediate:
		return fmt.Errorf("embedded: stop: the server didn't stop within %s and was stopped without a checkpoint", plan.Fast)
	case mode == postgres.Killed:
		return fmt.Errorf("embedded: stop: the server didn't stop within %s and was killed", plan.Fast+plan.Immediate)
	}
	return nil
}

// stopPlan divides the time until ctx's deadline: half for the fast shutdown, a quarter for the immediate one, the rest for
// killing and cleaning up.
func stopPlan(ctx context.Context) postgres.StopPlan {
	left := stopTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), time.Millisecond)
	}
	return postgres.StopPlan{Fast: min(left/2, fastShutdownLimit), Immediate: min(left/4, 10*time.Second)}
}

// acquireLock succeeds even if ctx has ended, as long as the lock is free.
func (s *Server) acquireLock(ctx context.Context) error {
	select {
	case s.lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) releaseLock() { <-s.lock }

func (s *Server) currentKeeper() *keeper.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeper
}

func (s *Server) setKeeper(process *keeper.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeper = process
}
