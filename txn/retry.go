package txn

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	defaultAttempts = 10
	defaultDelay    = 10 * time.Millisecond
	defaultMaxDelay = time.Second
)

// Retry runs the whole closure again in a new transaction if the server has rolled it back and another attempt may succeed:
//   - after a serialization failure (SQLSTATE 40001) or a deadlock (40P01), as PostgreSQL requires (PostgreSQL manual,
//     "Serialization Failure Handling"),
//   - if another session has changed a table or a type, and the server refuses a prepared statement for it (0A000, reported by
//     RevalidateCachedQuery); the driver prepares it again for the next attempt,
//   - if the server accepts no writes (25006), as a demoted writer does, and the transaction isn't [ReadOnly],
//   - if no connection could be made.
//
// If policy.Idempotency is pgfx.Idempotent, it also retries if the connection was lost before COMMIT was sent, or if an
// in-doubt commit was rolled back. Nothing is committed in these cases either, but an outage causes them in every transaction
// at once.
//
// Zero fields of the policy mean 10 attempts, a first wait of at most 10 ms and later waits of at most 1 s. pgfx.RetryPolicy
// documents the other fields. policy.Budget limits all retries. Without it, the budget of the pool (see pgfx.DB.RetryPolicy)
// limits those that an outage causes. Serialization failures and deadlocks are exempt, because they resolve when the
// transactions run one after another.
//
// The closure must tolerate repeated calls: move its effects outside the database to [AfterCommit]. [Attempt] returns the
// number of the current attempt. If the policy allows no further attempt, Do returns a *pgfx.RetryError, which unwraps to the
// last attempt's error. Only the outermost Do retries; a Do that joins a running transaction ignores the option.
func Retry(policy pgfx.RetryPolicy) Option {
	return Option{func(s *settings) error {
		if err := policy.Validate(); err != nil {
			return fmt.Errorf("txn: Retry: %w", err)
		}
		p := policy
		p.MaxAttempts = cmp.Or(p.MaxAttempts, defaultAttempts)
		p.Delay = cmp.Or(p.Delay, defaultDelay)
		p.MaxDelay = cmp.Or(p.MaxDelay, max(defaultMaxDelay, p.Delay))
		s.retry = &p
		return nil
	}}
}

// Attempt returns the number of the attempt that ctx belongs to: 1 for the first, 0 outside a transaction.
func Attempt(ctx context.Context) int {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return 0
	}
	return s.t.attempt
}

// runWithRetry runs attempts until one succeeds or the retry policy allows no more.
func (m *Manager) runWithRetry(ctx context.Context, fn func(context.Context) error, s *settings, r *run) error {
	retries := s.retry.Begin()
	for {
		retryable, err := m.runAttempt(ctx, fn, s, r)
		if retryable == nil {
			return err
		}
		exempt := s.retry.Budget != nil || isSerializationFailure(retryable) // from the budget of the pool
		if !exempt && !m.retryPolicy.Budget.Withdraw() || !retries.Next(ctx) {
			return retries.Wrap(err)
		}
		m.counters.retried.Add(1)
		m.db.Internals().RetryTx(ctx, retries.Attempts(), retryable)
		m.logger.Debug("retrying transaction", zap.Int("attempt", retries.Attempts()), zap.Error(err), logctx.Field(ctx))
	}
}

// canRetry reports whether another attempt may succeed after a transaction that ended with err and is certainly rolled back.
// connLost reports that its connection was lost or could not be made.
func (s *settings) canRetry(err error, connLost bool) bool {
	if s.retry == nil || s.mode.AccessMode == pgx.ReadOnly && sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		return false
	}
	idempotency := pgfx.NotIdempotent
	if connLost { // otherwise err is about a connection of the closure's own
		idempotency = s.retry.Idempotency
	}
	return pgfx.CanRetry(err, idempotency)
}

// isSerializationFailure reports whether err is a serialization failure or a deadlock.
func isSerializationFailure(err error) bool {
	code := sqlstate.Code(err)
	return code == sqlstate.SerializationFailure || code == sqlstate.DeadlockDetected
}

// sleep waits for d. It returns false if ctx ends first, or has a deadline before then.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
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
