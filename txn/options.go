package txn

import (
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Option sets terms of one transaction. Options are handed to [Manager.Do], or with [WithDefaults] to a manager for all
// of its transactions. When a Do joins a running transaction, the options it was given must agree with the transaction's.
type Option struct {
	apply func(*settings) error
}

// settings are the terms of a transaction. Zero means that nothing was said.
type settings struct {
	pgx.TxOptions
}

// Isolation sets the isolation level. Default: the server's default_transaction_isolation, which is read committed where
// nobody has changed it (PostgreSQL manual, "Transaction Isolation").
func Isolation(level pgx.TxIsoLevel) Option {
	return Option{func(s *settings) error {
		switch level {
		case pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted:
			s.IsoLevel = level
			return nil
		}
		return fmt.Errorf("txn: Isolation(%q): not a level; use one of pgx.Serializable, RepeatableRead, ReadCommitted, ReadUncommitted", level)
	}}
}

// Serializable is short for Isolation(pgx.Serializable).
func Serializable() Option { return Isolation(pgx.Serializable) }

// RepeatableRead is short for Isolation(pgx.RepeatableRead).
func RepeatableRead() Option { return Isolation(pgx.RepeatableRead) }

// ReadOnly declares that the transaction doesn't write; the server holds it to that (SQLSTATE 25006).
func ReadOnly() Option {
	return Option{func(s *settings) error { s.AccessMode = pgx.ReadOnly; return nil }}
}

// ReadWrite declares that the transaction may write, where the manager's or the server's default is read only.
func ReadWrite() Option {
	return Option{func(s *settings) error { s.AccessMode = pgx.ReadWrite; return nil }}
}

// Deferrable lets a serializable read-only transaction wait at its first statement until it has a snapshot with which it
// can't fail (PostgreSQL manual, "SET TRANSACTION"). It has no effect on others.
func Deferrable() Option {
	return Option{func(s *settings) error { s.DeferrableMode = pgx.Deferrable; return nil }}
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
		{"isolation level", string(s.IsoLevel), string(given.IsoLevel)},
		{"access mode", string(s.AccessMode), string(given.AccessMode)},
		{"deferrable mode", string(s.DeferrableMode), string(given.DeferrableMode)},
	} {
		if term.wanted != "" && term.wanted != term.running {
			return &ConflictError{Option: term.name, Running: term.running, Wanted: term.wanted}
		}
	}
	return nil
}
