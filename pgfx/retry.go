package pgfx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// Work says what kind of work is to be done again, and so after which errors that may happen.
type Idempotency uint8

const (
	// NotIdempotent is one statement outside of a transaction, or one whole transaction with its begin and its commit. It is done
	// again after errors which prove that nothing of it has happened: no connection could be made; the server has rolled it
	// back for a conflict with others (SQLSTATE 40001, 40P01); the server takes no writes (25006). It is never done again
	// when the connection was lost, for then nobody knows. It is the zero value.
	NotIdempotent Idempotency = iota
	// Idempotent is read-only work, or work that has the same effect when it happens twice. It is done again after the
	// connection was lost, too.
	Idempotent
)

// CanRetry reports whether work that ended in err may be done again, and may succeed then. It goes by what is certain: the
// driver's pgconn.SafeToRetry isn't asked, because it takes a COMMIT whose answer was lost for one that was never sent, and
// a statement that met a busy connection for one worth repeating. Of a refused login it reports true, too: once, and with
// fresh credentials, it may succeed.
//
// It is false for what must reach the caller at once: [ErrUnavailable], [ErrAcquireTimeout], [ErrClosed], an ended ctx; and for
// a [*RetryError]: somebody has tried again already, and attempts must not multiply.
func CanRetry(err error, work Idempotency) bool {
	switch remedyOf(err) {
	case sqlstate.Reconnect, sqlstate.Refresh, sqlstate.Redo, sqlstate.Evict:
		return true
	case sqlstate.Repeat:
		return work == Idempotent
	case sqlstate.Never:
	}
	return false
}

func remedyOf(err error) sqlstate.Remedy {
	_, dialing := errors.AsType[*pgconn.ConnectError](err)
	_, connecting := errors.AsType[*ConnectError](err)
	connecting = connecting || dialing
	if _, gaveUp := errors.AsType[*RetryError](err); gaveUp {
		return sqlstate.Never
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) || errors.Is(err, ErrAcquireTimeout) && !connecting {
		return sqlstate.Never
	}
	return sqlstate.RemedyOf(err, connecting)
}

// RetryPolicy says when and how often work is done again. Zero fields mean the defaults. The waits grow exponentially; each
// is drawn from between MinDelay and its full length, so that those who failed together don't come back together.
//
// A RetryPolicy is a plain value; copies share the Budget.
type RetryPolicy struct {
	// MaxAttempts is the number of attempts with the first one included. Default: 3. 1 means no retry; Off: no limit.
	MaxAttempts int
	// MaxElapsed is the time since the first attempt after which no other is begun. Default: 30 s. Off: no limit. The ctx's
	// deadline counts too.
	MaxElapsed time.Duration
	// Delay is the longest wait before the second attempt. Default: 200 ms.
	Delay time.Duration
	// Multiplier is the factor by which the longest wait grows from one attempt to the next, 1 to 100. Default: 2.
	Multiplier float64
	// MaxDelay is where it stops growing. Default: 5 s, or Delay where that is more.
	MaxDelay time.Duration
	// MinDelay is the shortest wait. Default: a tenth of Delay. Off: none.
	MinDelay time.Duration
	// Work is the kind of work. Default: NotIdempotent.
	Idempotency Idempotency
	// Budget limits the retries of all who share it. Default, nil: no limit. [DB.RetryPolicy] has the pool's.
	Budget *RetryBudget

	logger    *zap.Logger
	noRefresh bool // a refused login stays refused: the credentials are always the same
}

const (
	defaultAttempts   = 3
	defaultMaxElapsed = 30 * time.Second
	delayFloor        = 10 // a tenth of the first delay
)

// WithDefaults returns a copy of p with zero fields filled in.
func (p RetryPolicy) WithDefaults() RetryPolicy {
	setDefault(&p.MaxAttempts, defaultAttempts)
	setDefault(&p.MaxElapsed, defaultMaxElapsed)
	setDefault(&p.Delay, defaultRetryDelay)
	setDefault(&p.Multiplier, defaultRetryMultiplier)
	setDefault(&p.MaxDelay, max(defaultRetryMaxDelay, p.Delay))
	setDefault(&p.MinDelay, p.Delay/delayFloor)
	return p
}

// Validate reports all problems of p at once as a [*ConfigError].
func (p RetryPolicy) Validate() error {
	v := &validator{}
	if p.MaxAttempts < Off {
		v.add("MaxAttempts", p.MaxAttempts, "set 1 or more, 0 for the default or pgfx.Off (-1) for no limit")
	}
	v.duration("MaxElapsed", p.MaxElapsed)
	v.backoff("", p.Delay, p.MaxDelay, p.Multiplier)
	v.duration("MinDelay", p.MinDelay)
	if d := p.WithDefaults(); p.MinDelay > 0 && p.Delay >= 0 && p.MinDelay > d.Delay {
		v.add("MinDelay", p.MinDelay, fmt.Sprintf("set at most Delay, which is %v", d.Delay))
	}
	if p.Idempotency > Idempotent {
		v.add("Work", p.Idempotency, "set NotIdempotent or Idempotent")
	}
	if len(v.problems) > 0 {
		return &ConfigError{what: "retry policy", Problems: v.problems}
	}
	return nil
}

// RetryError is returned when an attempt after the first has failed too and no other is made. It unwraps to that attempt's
// error.
type RetryError struct {
	// Attempts is the number of attempts and Elapsed the time since the first one began.
	Attempts int
	Elapsed  time.Duration

	err error
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("pgfx: gave up after %d attempts in %v: %v", e.Attempts, e.Elapsed.Round(time.Millisecond), e.err)
}

func (e *RetryError) Unwrap() error { return e.err }

// Retry calls fn, and again as long as policy allows it after errors of which [CanRetry] is true for policy's Work. fn gets
// ctx as it is. ctx also ends the waiting. A refused login is tried once more.
//
// fn must do what policy.Idempotency says: one statement or one whole transaction, or what may happen any number of times. In the
// middle of a transaction nothing can be retried; package txn retries whole transactions by itself.
//
// Errors: what fn returned, in a [*RetryError] when it was called more than once; of a policy that isn't valid a
// [*ConfigError], and fn isn't called.
func Retry(ctx context.Context, policy RetryPolicy, fn func(ctx context.Context) error) error {
	_, err := RetryValue(ctx, policy, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
	return err
}

// RetryValue is [Retry] for a function that returns a value. With an error the value is what the last call returned.
func RetryValue[T any](ctx context.Context, policy RetryPolicy, fn func(ctx context.Context) (T, error)) (T, error) {
	if err := policy.Validate(); err != nil {
		var none T
		return none, err
	}
	retries := policy.Begin()
	for {
		value, err := fn(ctx)
		if err == nil || !retries.Again(ctx, err) {
			return value, retries.Wrap(err)
		}
	}
}

// Retries are the attempts at one piece of work. Most callers want [Retry]; Retries is for those who decide by themselves
// whether an error allows another attempt, as package txn does. It is used by one goroutine.
type Retries struct {
	policy    RetryPolicy
	began     time.Time
	attempts  int
	longest   time.Duration
	refreshed bool
}

// Begin counts a call in the budget. The first attempt is to be made then. p must be valid.
func (p RetryPolicy) Begin() Retries {
	p = p.WithDefaults()
	p.Budget.deposit()
	return Retries{policy: p, began: time.Now(), attempts: 1, longest: p.Delay}
}

// Attempts returns the number of attempts, the one that is being made included.
func (r *Retries) Attempts() int { return r.attempts }

// Elapsed returns the time since Begin.
func (r *Retries) Elapsed() time.Duration { return time.Since(r.began) }

// Again reports whether another attempt is to be made after err, and waits for its time. ctx ends the waiting.
func (r *Retries) Again(ctx context.Context, err error) bool {
	if !CanRetry(err, r.policy.Idempotency) {
		return false
	}
	if remedyOf(err) == sqlstate.Refresh {
		if r.refreshed || r.policy.noRefresh {
			return false
		}
		r.refreshed = true
	}
	if !r.Next(ctx) {
		return false
	}
	if r.policy.logger != nil {
		r.policy.logger.Debug("trying again", zap.Int("attempt", r.attempts), zap.Error(err))
	}
	return true
}

// Next is Again for an error that the caller has found to allow another attempt.
func (r *Retries) Next(ctx context.Context) bool {
	p := r.policy
	if p.MaxAttempts != Off && r.attempts >= p.MaxAttempts {
		return false
	}
	least := min(max(p.MinDelay, 0), r.longest)
	wait := least + rand.N(r.longest-least+1)
	if p.MaxElapsed != Off && time.Since(r.began)+wait > p.MaxElapsed || !p.Budget.Withdraw() || !sleep(ctx, wait) {
		return false
	}
	r.attempts++
	if next := float64(r.longest) * p.Multiplier; next < float64(p.MaxDelay) {
		r.longest = time.Duration(next)
	} else {
		r.longest = p.MaxDelay
	}
	return true
}

// Wrap returns err in a [*RetryError] when there was more than one attempt, else as it is.
func (r *Retries) Wrap(err error) error {
	if err == nil || r.attempts == 1 {
		return err
	}
	return &RetryError{Attempts: r.attempts, Elapsed: r.Elapsed(), err: err}
}

func (db *DB) retryPolicy() RetryPolicy {
	cfg := db.config.Retry
	p := RetryPolicy{
		MaxAttempts: defaultAttempts, MaxElapsed: defaultMaxElapsed, Delay: cfg.Delay, Multiplier: cfg.Multiplier, MaxDelay: cfg.MaxDelay,
		logger: db.logger, noRefresh: db.config.PasswordFile == "" && len(db.options.beforeConnect) == 0,
	}
	switch {
	case cfg.MaxAttempts == Off:
		p.MaxAttempts = 1
	case cfg.MaxAttempts > 0:
		p.MaxAttempts = cfg.MaxAttempts + 1
	}
	if cfg.Budget != Off {
		// A failover ends all connections at once, each in the middle of a read perhaps.
		p.Budget = NewRetryBudget(cfg.Budget, max(DefaultRetryReserve, db.config.Pool.MaxConns))
	}
	return p
}

// RetryPolicy returns the policy that Config.Retry describes, with the pool's budget in it. Set Work in it where the work
// is repeatable.
func (db *DB) RetryPolicy() RetryPolicy { return db.retry }
