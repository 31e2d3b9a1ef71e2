package txn

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	defaultAttempts = 10
	defaultDelay    = 10 * time.Millisecond
	defaultMaxDelay = time.Second
)

// Retry does the whole closure again, in a new transaction, when the server has undone it and it may succeed then: after a
// serialization failure (SQLSTATE 40001) or a deadlock (40P01), as PostgreSQL demands it (PostgreSQL manual, "Serialization
// Failure Handling"); when the server turned out to take no writes (25006, as a demoted writer answers) and the transaction
// isn't [ReadOnly]; when no connection could be made. With policy.Idempotency set to pgfx.Idempotent also when the connection
// was lost before COMMIT was sent, or the server has confirmed that it has rolled back: then nothing is stored either, but
// an outage meets every transaction at once.
//
// Zero fields of the policy mean 10 attempts, a longest first wait of 10 ms and a longest of 1 s; the others mean what
// pgfx.RetryPolicy says. policy.Budget holds all retries. Without one, the pool's (see pgfx.DB.RetryPolicy) holds those that
// an outage is to blame for: conflicts are settled by doing one after the other, and not by giving up.
//
// The closure must bear to be called several times: what it does outside of the database should wait for [AfterCommit].
// [Attempt] tells it which call it is. When the policy allows no further attempt, Do returns a *pgfx.RetryError, which
// unwraps to the last attempt's error. Only the outermost Do retries: where it joins a running transaction the option has no
// effect.
func Retry(policy pgfx.RetryPolicy) Option {
	return Option{func(s *settings) error {
		if err := policy.Validate(); err != nil {
			return fmt.Errorf("txn: Retry: %w", err)
		}
		p := policy
		setDefault(&p.MaxAttempts, defaultAttempts)
		setDefault(&p.Delay, defaultDelay)
		setDefault(&p.MaxDelay, max(defaultMaxDelay, p.Delay))
		s.retry = &p
		return nil
	}}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Attempt returns which attempt ctx belongs to, 1 for the first, and 0 outside of a transaction.
func Attempt(ctx context.Context) int {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return 0
	}
	return s.t.attempt
}

// retry attempts a transaction as often as its policy allows.
func (m *Manager) retry(ctx context.Context, fn func(context.Context) error, terms *settings) error {
	retries := terms.retry.Begin()
	for {
		again, err := m.attempt(ctx, fn, terms, retries.Attempts())
		if again == nil {
			return err
		}
		if terms.retry.Budget == nil && !conflicting(again) && !m.budget.Withdraw() || !retries.Next(ctx) {
			return retries.Wrap(err)
		}
		m.counters.retried.Add(1)
		m.logger.Debug("doing a transaction again", zap.Int("attempt", retries.Attempts()), zap.Error(err))
	}
}

// retryable reports whether a transaction that ended in err, and is certainly rolled back, can succeed when it is done
// again. broken says that its connection was lost, or never came to be.
func (s *settings) retryable(err error, broken bool) bool {
	if s.retry == nil || s.access == pgx.ReadOnly && sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		return false
	}
	work := pgfx.NotIdempotent
	if broken { // else the closure has lost some other connection
		work = s.retry.Idempotency
	}
	return pgfx.CanRetry(err, work)
}

// conflicting reports whether err comes from a conflict between transactions.
func conflicting(err error) bool {
	code := sqlstate.Code(err)
	return code == sqlstate.SerializationFailure || code == sqlstate.DeadlockDetected
}

// sleep waits for d. It returns false when ctx ends first, or would.
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
