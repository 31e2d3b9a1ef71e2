package txn

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Option sets terms of one transaction. Options are handed to [Manager.Do], or with [WithDefaults] to a manager for all
// of its transactions. When a Do joins a running transaction, the options it was given must agree with the transaction's.
type Option struct {
	apply func(*settings) error
}

// settings are the terms of a transaction. Zero means that nothing was said.
type settings struct {
	isolation  pgx.TxIsoLevel
	access     pgx.TxAccessMode
	deferrable pgx.TxDeferrableMode

	timeout, statement, lock, idle time.Duration

	withinDeadline bool
	propagation    propagation
	retry          *pgfx.RetryPolicy // nil for none
	outcome        CommitResolution

	begin string // of terms that are complete, see setBegin
}

// Isolation sets the isolation level. Default: the server's default_transaction_isolation, which is read committed where
// nobody has changed it (PostgreSQL manual, "Transaction Isolation").
func Isolation(level pgx.TxIsoLevel) Option {
	return Option{func(s *settings) error {
		switch level {
		case pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted:
			s.isolation = level
			return nil
		}
		return fmt.Errorf("txn: Isolation(%q): not a level; use one of pgx.Serializable, RepeatableRead, ReadCommitted, ReadUncommitted", level)
	}}
}

// Serializable is short for Isolation(pgx.Serializable). Use it with [Retry].
func Serializable() Option { return Isolation(pgx.Serializable) }

// RepeatableRead is short for Isolation(pgx.RepeatableRead). Use it with [Retry] when the transaction writes.
func RepeatableRead() Option { return Isolation(pgx.RepeatableRead) }

// ReadOnly declares that the transaction doesn't write; the server holds it to that (SQLSTATE 25006).
func ReadOnly() Option {
	return Option{func(s *settings) error { s.access = pgx.ReadOnly; return nil }}
}

// ReadWrite declares that the transaction may write, where the manager's or the server's default is read only.
func ReadWrite() Option {
	return Option{func(s *settings) error { s.access = pgx.ReadWrite; return nil }}
}

// Deferrable lets a serializable read-only transaction wait at its first statement until it has a snapshot with which it
// can't fail (PostgreSQL manual, "SET TRANSACTION"). It has no effect on others.
func Deferrable() Option {
	return Option{func(s *settings) error { s.deferrable = pgx.Deferrable; return nil }}
}

// Timeout bounds the whole call, with waiting for a connection and retries included: fn's context ends with a deadline.
// Default: the bound of the caller's ctx.
func Timeout(d time.Duration) Option {
	return Option{func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("txn: Timeout(%v): use a positive duration", d)
		}
		s.timeout = d
		return nil
	}}
}

// StatementTimeout sets statement_timeout for the transaction: the longest that the server works on one statement
// (SQLSTATE 57014). It travels with BEGIN and costs no round trip, as the other settings of the server do; the resolution is
// a millisecond. [pgfx.Off] means no limit. Default: that of the session.
func StatementTimeout(d time.Duration) Option {
	return serverTimeout("StatementTimeout", d, func(s *settings) { s.statement = d })
}

// LockTimeout sets lock_timeout for the transaction: the longest that a statement waits for one lock (SQLSTATE 55P03).
// [pgfx.Off] means no limit. Default: that of the session.
func LockTimeout(d time.Duration) Option {
	return serverTimeout("LockTimeout", d, func(s *settings) { s.lock = d })
}

// IdleTimeout sets idle_in_transaction_session_timeout for the transaction: how long the server lets it do nothing before it
// ends the session (SQLSTATE 25P03), so that a client that has gone away or got stuck holds no locks. [pgfx.Off] means no
// limit. Default: that of the session.
func IdleTimeout(d time.Duration) Option {
	return serverTimeout("IdleTimeout", d, func(s *settings) { s.idle = d })
}

// WithinDeadline sets statement_timeout to what is left until the deadline of the context when the transaction begins, so
// that the server stops by itself if the client can't tell it to. A shorter [StatementTimeout] stays.
func WithinDeadline() Option {
	return Option{func(s *settings) error { s.withinDeadline = true; return nil }}
}

func serverTimeout(name string, d time.Duration, set func(*settings)) Option {
	return Option{func(s *settings) error {
		if d != pgfx.Off && (d < time.Millisecond || d.Milliseconds() > math.MaxInt32) {
			return fmt.Errorf("txn: %s(%v): use at least a millisecond and at most 24 days, or pgfx.Off", name, d)
		}
		set(s)
		return nil
	}}
}

// with returns a copy of s on which opts have been laid.
func (s *settings) with(opts []Option) (*settings, error) {
	laid := *s
	for _, opt := range opts {
		if opt.apply == nil {
			continue
		}
		if err := opt.apply(&laid); err != nil {
			return nil, err
		}
	}
	return &laid, nil
}

// conflict returns an error when given, the options of an inner Do, differ from s.
func (s *settings) conflict(given *settings) error {
	for _, term := range []struct{ name, running, wanted string }{
		{"isolation level", string(s.isolation), string(given.isolation)},
		{"access mode", string(s.access), string(given.access)},
		{"deferrable mode", string(s.deferrable), string(given.deferrable)},
		{"timeout", shown(s.timeout), shown(given.timeout)},
		{"statement timeout", shown(s.statement), shown(given.statement)},
		{"lock timeout", shown(s.lock), shown(given.lock)},
		{"idle timeout", shown(s.idle), shown(given.idle)},
	} {
		if term.wanted != "" && term.wanted != term.running {
			return &OptionMismatchError{Option: term.name, Running: term.running, Wanted: term.wanted}
		}
	}
	if given.withinDeadline && !s.withinDeadline {
		return &OptionMismatchError{Option: "statement timeout", Running: shown(s.statement), Wanted: "the context's deadline"}
	}
	return nil
}

func shown(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d == pgfx.Off {
		return "off"
	}
	return d.String()
}

// milliseconds returns the value of a timeout as the server wants it, "" when nothing was said.
func milliseconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d == pgfx.Off {
		return "0"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// statementTimeout returns the statement timeout of a transaction that begins now.
func (s *settings) statementTimeout(ctx context.Context) time.Duration {
	if !s.withinDeadline {
		return s.statement
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return s.statement
	}
	left := min(max(time.Until(deadline).Round(time.Millisecond), time.Millisecond), math.MaxInt32*time.Millisecond)
	if s.statement > 0 {
		return min(left, s.statement)
	}
	return left
}

// local is a setting of the server for one transaction.
type local struct{ name, value string }

// maxLocals is how many settings there may be.
const maxLocals = 3

// locals returns the settings that go with BEGIN.
func (s *settings) locals(ctx context.Context) []local {
	if s.statement == 0 && s.lock == 0 && s.idle == 0 && !s.withinDeadline {
		return nil
	}
	all := [maxLocals]local{
		{"statement_timeout", milliseconds(s.statementTimeout(ctx))},
		{"lock_timeout", milliseconds(s.lock)},
		{"idle_in_transaction_session_timeout", milliseconds(s.idle)},
	}
	set := make([]local, 0, maxLocals)
	for _, l := range all {
		if l.value != "" {
			set = append(set, l)
		}
	}
	return set
}

// setBegin keeps the statement that begins the transaction.
func (s *settings) setBegin() {
	s.begin = "begin"
	if s.isolation != "" {
		s.begin += " isolation level " + string(s.isolation)
	}
	if s.access != "" {
		s.begin += " " + string(s.access)
	}
	if s.deferrable != "" {
		s.begin += " " + string(s.deferrable)
	}
}

// beginWithLocals returns the statement that begins the transaction and those that set what the server is to know. pgx sends
// what has no arguments as a simple query, which may consist of several statements.
func (s *settings) beginWithLocals(ctx context.Context) string {
	set := s.locals(ctx)
	if len(set) == 0 {
		return s.begin
	}
	var b strings.Builder
	b.WriteString(s.begin)
	for _, l := range set {
		b.WriteString("; set local " + l.name + " = " + l.value)
	}
	return b.String()
}
