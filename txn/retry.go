package txn

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// RetryPolicy says when and how often a transaction is done again, closure and all. Zero fields mean the defaults.
type RetryPolicy struct {
	// MaxAttempts is the number of attempts with the first one included. Default: 10. 1 means no retry.
	MaxAttempts int
	// MaxElapsed is the time after which no further attempt is begun. Default: 30 s. The ctx's deadline counts too.
	MaxElapsed time.Duration
	// Delay is the mean wait before the second attempt; each wait is jittered by half. Default: 10 ms.
	Delay time.Duration
	// Multiplier is the factor from one wait to the next, 1 or more. Default: 2.
	Multiplier float64
	// MaxDelay is the longest mean wait. Default: 1 s.
	MaxDelay time.Duration
	// LostConnections also retries when the connection was lost or the server turned out to be read only (SQLSTATE 25006, as
	// a demoted writer answers), provided that COMMIT had not been sent: then the server has rolled back for certain.
	LostConnections bool
}

const (
	defaultAttempts   = 10
	defaultMaxElapsed = 30 * time.Second
	defaultDelay      = 10 * time.Millisecond
	defaultMultiplier = 2
	defaultMaxDelay   = time.Second
)

// Retry does the whole closure again, in a new transaction, after a serialization failure (SQLSTATE 40001) or a deadlock
// (40P01), as PostgreSQL demands it (PostgreSQL manual, "Serialization Failure Handling"). The closure must bear to be
// called several times: what it does outside of the database should wait for [AfterCommit]. [Attempt] tells it which call it
// is.
//
// Only the outermost Do retries: where it joins a running transaction the option has no effect.
func Retry(policy RetryPolicy) Option {
	return Option{func(s *settings) error {
		if policy.MaxAttempts < 0 || policy.MaxElapsed < 0 || policy.Delay < 0 || policy.MaxDelay < 0 ||
			policy.Multiplier != 0 && !(policy.Multiplier >= 1) { // NaN is not at least 1
			return fmt.Errorf("txn: Retry(%+v): use no negative value, and a multiplier of 1 or more", policy)
		}
		s.retry = withDefaults(policy)
		return nil
	}}
}

func withDefaults(p RetryPolicy) RetryPolicy {
	setDefault(&p.MaxAttempts, defaultAttempts)
	setDefault(&p.MaxElapsed, defaultMaxElapsed)
	setDefault(&p.Delay, defaultDelay)
	setDefault(&p.Multiplier, defaultMultiplier)
	setDefault(&p.MaxDelay, max(defaultMaxDelay, p.Delay))
	return p
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// RetriesError is returned when the last attempt that the policy allows has failed too. It unwraps to that attempt's error.
type RetriesError struct {
	// Attempts is the number of attempts and Elapsed the time since the first one began.
	Attempts int
	Elapsed  time.Duration

	err error
}

func (e *RetriesError) Error() string {
	return fmt.Sprintf("txn: gave up after %d attempts in %v: %v", e.Attempts, e.Elapsed.Round(time.Millisecond), e.err)
}

func (e *RetriesError) Unwrap() error { return e.err }

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
	began := time.Now()
	var pause *backoff.ExponentialBackOff
	for attempt := 1; ; attempt++ {
		again, err := m.attempt(ctx, fn, terms, attempt)
		if !again {
			return err
		}
		if pause == nil {
			pause = terms.retry.backOff()
		}
		wait := pause.NextBackOff()
		if attempt >= terms.retry.MaxAttempts || time.Since(began)+wait > terms.retry.MaxElapsed || !sleep(ctx, wait) {
			if attempt == 1 {
				return err
			}
			return &RetriesError{Attempts: attempt, Elapsed: time.Since(began), err: err}
		}
		m.counters.retried.Add(1)
		m.logger.Debug("doing a transaction again", zap.Int("attempt", attempt+1), zap.Duration("waited", wait), zap.Error(err))
	}
}

func (p *RetryPolicy) backOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = p.Delay, p.Multiplier, p.MaxDelay
	b.Reset()
	return b
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

// retryable reports whether a transaction that ended in err, and is certainly rolled back, can succeed when it is done
// again.
func (p *RetryPolicy) retryable(err error) bool {
	if conflicting(err) {
		return true
	}
	switch sqlstate.Code(err) {
	case sqlstate.ReadOnlySQLTransaction, sqlstate.AdminShutdown, sqlstate.CrashShutdown, sqlstate.CannotConnectNow:
		return p.LostConnections
	case "":
		return p.LostConnections && sqlstate.CauseOf(err) == sqlstate.Killed
	}
	return false
}

// conflicting reports whether err comes from a conflict between transactions.
func conflicting(err error) bool {
	code := sqlstate.Code(err)
	return code == sqlstate.SerializationFailure || code == sqlstate.DeadlockDetected
}
