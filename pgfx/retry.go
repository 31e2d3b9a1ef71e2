package pgfx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// Idempotency declares whether work may be executed twice. It decides after which errors work is retried.
type Idempotency uint8

const (
	// NotIdempotent is work that must not be executed twice: one statement outside a transaction, or one whole transaction
	// including BEGIN and COMMIT. It is the zero value.
	//
	// It is retried only after errors which prove that it had no effect. Either no connection could be opened, or the server
	// rolled it back (40001, 40P01) or is read-only (25006). It is never retried after a lost connection, because the outcome
	// is unknown then.
	NotIdempotent Idempotency = iota
	// Idempotent is read-only work, or work that has the same effect when executed twice. It is also retried after a lost
	// connection.
	Idempotent
)

// CanRetry reports whether work that failed with err may be retried and could succeed. It also reports true for a refused
// login, because an attempt with new credentials could succeed.
//
// It reports false for errors that the caller should see at once: [ErrUnavailable], [ErrAcquireTimeout], [ErrClosed] and an
// ended ctx. It also reports false for a [*RetryError], so that nested retries do not multiply attempts.
//
// CanRetry does not use pgconn.SafeToRetry, which reports true for a COMMIT whose reply was lost and for a busy connection.
func CanRetry(err error, work Idempotency) bool {
	switch remedyOf(err) {
	case sqlstate.Reconnect, sqlstate.RefreshCredentials, sqlstate.RetryTransaction, sqlstate.RetryElsewhere:
		return true
	case sqlstate.RetryIdempotent:
		return work == Idempotent
	case sqlstate.NoRetry:
	}
	return false
}

func remedyOf(err error) sqlstate.Remedy {
	_, dialing := errors.AsType[*pgconn.ConnectError](err)
	connect, connecting := errors.AsType[*ConnectError](err)
	if _, gaveUp := errors.AsType[*RetryError](err); gaveUp {
		return sqlstate.NoRetry
	}
	// A start that waited for the pool's first connection may be retried. A caller that waited has waited long enough.
	waited := errors.Is(err, ErrAcquireTimeout) && (!connecting || !errors.Is(connect, ErrAcquireTimeout))
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) || waited {
		return sqlstate.NoRetry
	}
	return sqlstate.RemedyOf(err, connecting || dialing)
}

// RetryPolicy configures when and how often work is retried. Zero fields mean the defaults. Each wait is random, between
// MinDelay and a maximum that grows exponentially, so that callers that fail together do not retry together.
//
// A RetryPolicy is a plain value; copies share the Budget.
type RetryPolicy struct {
	// MaxAttempts is the number of attempts, including the first; 1 disables retries. Default: 3. Off means no limit.
	MaxAttempts int
	// MaxElapsed is the time since the first attempt after which no further attempt begins. The deadline of ctx applies as
	// well. Default: 30 s. Off means no limit.
	MaxElapsed time.Duration
	// Delay is the longest wait before the second attempt. Default: 200 ms.
	Delay time.Duration
	// Multiplier is the factor by which the longest wait grows with each attempt, from 1 to 100. Default: 2.
	Multiplier float64
	// MaxDelay is the largest value to which the wait grows. Default: 5 s, or Delay if that is more.
	MaxDelay time.Duration
	// MinDelay is the shortest wait. Default: 10 % of Delay. Off means no minimum.
	MinDelay time.Duration
	// Idempotency declares whether the work may be executed twice. Default: NotIdempotent.
	Idempotency Idempotency
	// Budget limits the retries of all policies that share it. Default: nil, which is no limit. [DB.RetryPolicy] returns a
	// policy with the budget of the pool.
	Budget *RetryBudget

	logger           *zap.Logger
	fixedCredentials bool // credentials never change, so a refused login is not retried
}

const (
	defaultAttempts   = 3
	defaultMaxElapsed = 30 * time.Second
	minDelayDivisor   = 10 // 10 %
)

// WithDefaults returns a copy of p in which zero fields have their default values.
func (p RetryPolicy) WithDefaults() RetryPolicy {
	setDefault(&p.MaxAttempts, defaultAttempts)
	setDefault(&p.MaxElapsed, defaultMaxElapsed)
	setDefault(&p.Delay, defaultRetryDelay)
	setDefault(&p.Multiplier, defaultRetryMultiplier)
	setDefault(&p.MaxDelay, max(defaultRetryMaxDelay, p.Delay))
	setDefault(&p.MinDelay, p.Delay/minDelayDivisor)
	return p
}

// Validate returns a [*ConfigError] with all problems of p, or nil.
func (p RetryPolicy) Validate() error {
	v := &validator{}
	v.attempts("MaxAttempts", p.MaxAttempts)
	v.duration("MaxElapsed", p.MaxElapsed)
	v.backoff("", p.Delay, p.MaxDelay, p.Multiplier)
	v.duration("MinDelay", p.MinDelay)
	if d := p.WithDefaults(); p.MinDelay > 0 && p.Delay >= 0 && p.MinDelay > d.Delay {
		v.add("MinDelay", p.MinDelay, fmt.Sprintf("set at most Delay, which is %v", d.Delay))
	}
	if p.Idempotency > Idempotent {
		v.add("Idempotency", p.Idempotency, "set NotIdempotent or Idempotent")
	}
	return v.err("retry policy")
}

// RetryError is returned when the last of several attempts has failed. It unwraps to the error of that attempt.
type RetryError struct {
	// Attempts is the number of attempts, including the first.
	Attempts int
	// Elapsed is the time since the first attempt began.
	Elapsed time.Duration

	err error
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("pgfx: gave up after %d attempts in %v: %v", e.Attempts, e.Elapsed.Round(time.Millisecond), e.err)
}

// Unwrap returns the error of the last attempt.
func (e *RetryError) Unwrap() error { return e.err }

// Retry calls fn until it succeeds, it fails with an error for which [CanRetry] reports false, or policy allows no further
// attempt. A refused login is retried once. Retry passes ctx to fn; the end of ctx also ends a wait between attempts.
//
// fn must do what policy.Idempotency declares: one statement or one whole transaction, or work that may be executed twice.
// Part of a transaction cannot be retried. Package txn retries whole transactions by itself.
//
// Retry returns the error of fn, wrapped in a [*RetryError] if there was more than one attempt. If policy is not valid, it
// returns a [*ConfigError] without calling fn.
func Retry(ctx context.Context, policy RetryPolicy, fn func(ctx context.Context) error) error {
	_, err := RetryValue(ctx, policy, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
	return err
}

// RetryValue is like [Retry] for a function that returns a value. It returns the value of the last call, even with an error.
func RetryValue[T any](ctx context.Context, policy RetryPolicy, fn func(ctx context.Context) (T, error)) (T, error) {
	if err := policy.Validate(); err != nil {
		var none T
		return none, err
	}
	retries := policy.Begin()
	for {
		value, err := fn(ctx)
		if err == nil || !retries.NextAfter(ctx, err) {
			return value, retries.Wrap(err)
		}
	}
}

// Retries counts and delays the attempts of one call. Most code uses [Retry] instead; Retries is for code that decides itself
// which errors allow another attempt. It is not safe for concurrent use.
type Retries struct {
	policy     RetryPolicy
	began      time.Time
	attempts   int
	maxWait    time.Duration
	loginRetry bool // a refused login was retried
}

// Begin counts a call in the budget and returns its Retries, ready for the first attempt. p must be valid.
func (p RetryPolicy) Begin() Retries {
	p = p.WithDefaults()
	p.Budget.deposit()
	return Retries{policy: p, began: time.Now(), attempts: 1, maxWait: p.Delay}
}

// Attempts returns the number of attempts, including the current one.
func (r *Retries) Attempts() int { return r.attempts }

// Elapsed returns the time since Begin.
func (r *Retries) Elapsed() time.Duration { return time.Since(r.began) }

// NextAfter is like [Retries.Next], but returns false at once if err does not allow another attempt (see [CanRetry]). A
// refused login allows one.
func (r *Retries) NextAfter(ctx context.Context, err error) bool {
	if !CanRetry(err, r.policy.Idempotency) {
		return false
	}
	if remedyOf(err) == sqlstate.RefreshCredentials {
		if r.loginRetry || r.policy.fixedCredentials {
			return false
		}
		r.loginRetry = true
	}
	if !r.Next(ctx) {
		return false
	}
	if r.policy.logger != nil {
		r.policy.logger.Debug("retrying", zap.Int("attempt", r.attempts), zap.Error(err))
	}
	return true
}

// Next waits for the next attempt. It returns false if the policy or its budget allows none, or if ctx has ended.
func (r *Retries) Next(ctx context.Context) bool {
	p := r.policy
	if p.MaxAttempts != Off && r.attempts >= p.MaxAttempts {
		return false
	}
	minWait := min(max(p.MinDelay, 0), r.maxWait)
	wait := minWait + rand.N(r.maxWait-minWait+1)
	if p.MaxElapsed != Off && time.Since(r.began)+wait > p.MaxElapsed || !p.Budget.Withdraw() || !sleep(ctx, wait) {
		return false
	}
	r.attempts++
	if next := float64(r.maxWait) * p.Multiplier; next < float64(p.MaxDelay) {
		r.maxWait = time.Duration(next)
	} else {
		r.maxWait = p.MaxDelay
	}
	return true
}

// Wrap returns err in a [*RetryError] if there was more than one attempt, and err itself otherwise.
func (r *Retries) Wrap(err error) error {
	if err == nil || r.attempts == 1 {
		return err
	}
	return &RetryError{Attempts: r.attempts, Elapsed: r.Elapsed(), err: err}
}

func (db *DB) retryPolicy() RetryPolicy {
	cfg := db.config.Retry
	p := RetryPolicy{
		MaxAttempts: cmp.Or(cfg.MaxAttempts, defaultAttempts), MaxElapsed: defaultMaxElapsed,
		Delay: cfg.Delay, Multiplier: cfg.Multiplier, MaxDelay: cfg.MaxDelay,
		logger: db.logger, fixedCredentials: db.config.PasswordFile == "" && len(db.options.beforeConnect)+len(db.options.authenticators) == 0,
	}
	if cfg.Budget != Off {
		// A failover can end all connections at once, each during a read, and all of them should be retried.
		p.Budget = NewRetryBudget(cfg.Budget, max(DefaultRetryReserve, db.config.Pool.MaxConns))
	}
	return p
}

// RetryPolicy returns the policy that Config.Retry describes, with the budget of the pool. Set its Idempotency for work that
// may be executed twice.
func (db *DB) RetryPolicy() RetryPolicy { return db.retry }
