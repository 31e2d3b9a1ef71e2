package txn

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Option configures one transaction. Pass options to [Manager.Do], or to a manager for all its transactions with
// [WithDefaults]. If a Do joins a running transaction, its options must agree with those of the transaction; otherwise it
// returns an [*OptionMismatchError].
type Option struct {
	apply func(*settings) error
}

// settings are the options of a transaction. A zero field isn't set.
type settings struct {
	mode pgx.TxOptions // isolation level, access mode and deferrable mode

	timeout          time.Duration
	statementTimeout time.Duration
	lockTimeout      time.Duration
	idleTimeout      time.Duration
	values           *settingValue // of Set
	leader           *Leader       // of Fenced

	withinDeadline bool
	propagation    propagation
	retry          *pgfx.RetryPolicy // nil for no retries
	resolution     CommitResolution
	resolveInTime  bool // OutcomeWithinDeadline
}

// Isolation sets the isolation level. Default: the server's default_transaction_isolation, which is read committed unless it
// has been changed (PostgreSQL manual, "Transaction Isolation").
func Isolation(level pgx.TxIsoLevel) Option {
	return Option{func(s *settings) error {
		switch level {
		case pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted:
			s.mode.IsoLevel = level
			return nil
		}
		return fmt.Errorf("txn: Isolation(%q): unknown level; use one of pgx.Serializable, RepeatableRead, ReadCommitted, ReadUncommitted", level)
	}}
}

// Serializable is short for Isolation(pgx.Serializable). Use it with [Retry].
func Serializable() Option { return Isolation(pgx.Serializable) }

// RepeatableRead is short for Isolation(pgx.RepeatableRead). Use it with [Retry] if the transaction writes.
func RepeatableRead() Option { return Isolation(pgx.RepeatableRead) }

// ReadOnly makes the transaction read-only. The server rejects writes with SQLSTATE 25006.
func ReadOnly() Option {
	return Option{func(s *settings) error { s.mode.AccessMode = pgx.ReadOnly; return nil }}
}

// ReadWrite allows writes if the default of the manager or the server is read-only.
func ReadWrite() Option {
	return Option{func(s *settings) error { s.mode.AccessMode = pgx.ReadWrite; return nil }}
}

// Deferrable makes a serializable read-only transaction wait for a snapshot that can't cause a serialization failure. It waits
// at its first statement (PostgreSQL manual, "SET TRANSACTION"). Deferrable has no effect on other transactions.
func Deferrable() Option {
	return Option{func(s *settings) error { s.mode.DeferrableMode = pgx.Deferrable; return nil }}
}

// Timeout bounds the whole call of Do, including the wait for a connection and all retries: the context of the closure gets
// this deadline. Default: the deadline of the caller's ctx.
func Timeout(d time.Duration) Option {
	return Option{func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("txn: Timeout(%v): use a positive duration", d)
		}
		s.timeout = d
		return nil
	}}
}

// StatementTimeout sets statement_timeout for the transaction: the longest time that the server spends on one statement
// (SQLSTATE 57014). The value is sent together with BEGIN and costs no round trip, as those of [LockTimeout] and [IdleTimeout]
// are. The resolution is 1 ms. [pgfx.Off] means no limit. Default: the session's value.
func StatementTimeout(d time.Duration) Option {
	return serverTimeout("StatementTimeout", d, func(s *settings) { s.statementTimeout = d })
}

// LockTimeout sets lock_timeout for the transaction: the longest time that a statement waits for one lock (SQLSTATE 55P03).
// [pgfx.Off] means no limit. Default: the session's value.
func LockTimeout(d time.Duration) Option {
	return serverTimeout("LockTimeout", d, func(s *settings) { s.lockTimeout = d })
}

// IdleTimeout sets idle_in_transaction_session_timeout for the transaction: the longest time that the server waits for the next
// statement before it ends the session (SQLSTATE 25P03). It frees the locks of a client that hangs or has disappeared.
// [pgfx.Off] means no limit. Default: the session's value.
func IdleTimeout(d time.Duration) Option {
	return serverTimeout("IdleTimeout", d, func(s *settings) { s.idleTimeout = d })
}

// WithinDeadline sets statement_timeout to the time that remains until the deadline of the context when the transaction begins.
// The server then stops a statement even if the client can't cancel it. A shorter [StatementTimeout] takes precedence.
func WithinDeadline() Option {
	return Option{func(s *settings) error { s.withinDeadline = true; return nil }}
}

func serverTimeout(name string, d time.Duration, set func(*settings)) Option {
	return Option{func(s *settings) error {
		if d != pgfx.Off && (d < time.Millisecond || d.Milliseconds() > math.MaxInt32) {
			return fmt.Errorf("txn: %s(%v): use at least 1ms and at most 24 days, or pgfx.Off", name, d)
		}
		set(s)
		return nil
	}}
}

// with returns a copy of s with opts applied.
func (s *settings) with(opts []Option) (*settings, error) {
	result := *s
	for _, opt := range opts {
		if opt.apply == nil {
			continue
		}
		if err := opt.apply(&result); err != nil {
			return nil, err
		}
	}
	return &result, nil
}

// mismatch returns an error if wanted, the options of an inner Do, differ from the settings of the running transaction.
func (s *settings) mismatch(wanted *settings) error {
	for _, option := range []struct{ name, running, wanted string }{
		{"isolation level", string(s.mode.IsoLevel), string(wanted.mode.IsoLevel)},
		{"access mode", string(s.mode.AccessMode), string(wanted.mode.AccessMode)},
		{"deferrable mode", string(s.mode.DeferrableMode), string(wanted.mode.DeferrableMode)},
		{"timeout", formatTimeout(s.timeout), formatTimeout(wanted.timeout)},
		{"statement timeout", formatTimeout(s.statementTimeout), formatTimeout(wanted.statementTimeout)},
		{"lock timeout", formatTimeout(s.lockTimeout), formatTimeout(wanted.lockTimeout)},
		{"idle timeout", formatTimeout(s.idleTimeout), formatTimeout(wanted.idleTimeout)},
	} {
		if option.wanted != "" && option.wanted != option.running {
			return &OptionMismatchError{Option: option.name, Running: option.running, Wanted: option.wanted}
		}
	}
	if wanted.withinDeadline && !s.withinDeadline {
		running := formatTimeout(s.statementTimeout)
		return &OptionMismatchError{Option: "statement timeout", Running: running, Wanted: "the context's deadline"}
	}
	if wanted.leader != nil && wanted.leader != s.leader {
		return &OptionMismatchError{Option: "leader", Running: "none or another", Wanted: strconv.Quote(wanted.leader.name)}
	}
	if wanted.values != nil {
		return s.values.mismatch(wanted.values)
	}
	return nil
}

func formatTimeout(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d == pgfx.Off {
		return "off"
	}
	return d.String()
}

// setTimeouts sets the server's timeouts for one transaction. A null keeps the session's value.
const setTimeouts = `select
	set_config('statement_timeout', coalesce($1, current_setting('statement_timeout')), true),
	set_config('lock_timeout', coalesce($2, current_setting('lock_timeout')), true),
	set_config('idle_in_transaction_session_timeout', coalesce($3, current_setting('idle_in_transaction_session_timeout')), true)`

// setsTimeouts reports whether the transaction sets timeouts of the server.
func (s *settings) setsTimeouts() bool {
	return s.statementTimeout != 0 || s.lockTimeout != 0 || s.idleTimeout != 0 || s.withinDeadline || s.leader != nil
}

// queueTimeouts adds the statement that sets the server's timeouts to a batch.
func (s *settings) queueTimeouts(ctx context.Context, batch *pgx.Batch) {
	idle := s.idleTimeout
	if idle == 0 && s.leader != nil {
		idle = leaderLease
	}
	batch.Queue(setTimeouts, milliseconds(s.effectiveStatementTimeout(ctx)), milliseconds(s.lockTimeout), milliseconds(idle))
}

// milliseconds returns a timeout as the server expects it, nil if it isn't set.
func milliseconds(timeout time.Duration) any {
	if timeout == 0 {
		return nil
	}
	if timeout == pgfx.Off {
		return "0"
	}
	return strconv.FormatInt(timeout.Milliseconds(), 10)
}

// effectiveStatementTimeout returns the statement timeout of a transaction that begins now.
func (s *settings) effectiveStatementTimeout(ctx context.Context) time.Duration {
	if !s.withinDeadline {
		return s.statementTimeout
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return s.statementTimeout
	}
	left := min(max(time.Until(deadline).Round(time.Millisecond), time.Millisecond), math.MaxInt32*time.Millisecond)
	if s.statementTimeout > 0 {
		return min(left, s.statementTimeout)
	}
	return left
}
