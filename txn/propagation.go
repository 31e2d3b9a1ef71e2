package txn

import (
	"context"
	"errors"
	"fmt"
)

// propagation selects what a Do does if its context carries a transaction, and if it carries none.
type propagation uint8

const (
	required propagation = iota
	requiresNew
	nested
	mandatory
	supports
	notSupported
	never
)

func (p propagation) String() string {
	return [...]string{"Required", "RequiresNew", "Nested", "Mandatory", "Supports", "NotSupported", "Never"}[p]
}

func propagate(p propagation) Option {
	return Option{func(s *settings) error {
		if s.propagation != required && s.propagation != p {
			return fmt.Errorf("txn: %s and %s exclude each other; choose one", s.propagation, p)
		}
		s.propagation = p
		return nil
	}}
}

// Required joins the transaction that the context carries, or begins one if there is none. It is the default.
func Required() Option { return propagate(required) }

// RequiresNew begins a separate transaction on a second connection, whether or not the context carries one. Both end
// independently. The new transaction doesn't see the changes of the outer one. If it needs a lock of the outer one, it waits
// without end, because PostgreSQL can't detect this deadlock. The pool needs a spare connection for each such transaction.
func RequiresNew() Option { return propagate(requiresNew) }

// Nested runs the closure in an inner scope, which begins at a savepoint of the transaction that the context carries. If the
// closure fails, only its own changes are rolled back, and the outer closure may continue. Without a transaction it begins one.
func Nested() Option { return propagate(nested) }

// Mandatory joins the transaction that the context carries. Without one, Do returns [ErrNoTransaction].
func Mandatory() Option { return propagate(mandatory) }

// Supports joins the transaction that the context carries. Without one, the closure runs outside a transaction, and the other
// options have no effect.
func Supports() Option { return propagate(supports) }

// NotSupported runs the closure outside a transaction: its statements run on the pool and take effect immediately. It excludes
// all other options. A transaction that the caller's context carries continues afterwards and keeps its connection meanwhile.
func NotSupported() Option { return propagate(notSupported) }

// Never runs the closure outside a transaction. If the context carries one, Do returns [ErrInTransaction]. It excludes all
// other options.
func Never() Option { return propagate(never) }

var (
	// ErrNoTransaction is returned if a transaction is needed and the context carries none.
	ErrNoTransaction = errors.New("txn: the context carries no transaction: call this in the closure of a Do, with its context")
	// ErrInTransaction is returned by a Do with [Never] whose context carries a transaction.
	ErrInTransaction = errors.New("txn: the context carries a transaction, which Never excludes")
)

// doWithOptions is Do with options.
func (m *Manager) doWithOptions(ctx context.Context, current *scope, fn func(context.Context) error, opts []Option) error {
	wanted, err := (&settings{}).with(opts)
	if err != nil {
		return err
	}
	switch wanted.propagation {
	case notSupported, never:
		return m.doWithoutTx(ctx, current, fn, wanted)
	case requiresNew:
		if current != nil && m.maxConns == 1 {
			return errors.New("txn: RequiresNew needs a second connection, but the pool has only one; raise Config.Pool.MaxConns")
		}
		if current != nil {
			ctx, current = &withoutTx{Context: ctx, m: m}, nil
		}
	case required, nested, mandatory, supports:
	}
	if current == nil {
		return m.doOutermost(ctx, fn, wanted.propagation, opts)
	}
	if err := current.t.settings.mismatch(wanted); err != nil {
		return err
	}
	if wanted.propagation == nested {
		return current.nest(ctx, fn)
	}
	return current.join(ctx, fn)
}

// doWithoutTx calls fn outside a transaction.
func (m *Manager) doWithoutTx(ctx context.Context, current *scope, fn func(context.Context) error, wanted *settings) error {
	if *wanted != (settings{propagation: wanted.propagation}) {
		return fmt.Errorf("txn: %s begins no transaction, so other options have no effect; remove them", wanted.propagation)
	}
	if current == nil {
		return fn(ctx)
	}
	if wanted.propagation == never {
		return ErrInTransaction
	}
	return fn(&withoutTx{Context: ctx, m: m})
}

// doOutermost calls fn where there is no transaction to join.
func (m *Manager) doOutermost(ctx context.Context, fn func(context.Context) error, p propagation, opts []Option) error {
	switch p {
	case mandatory:
		return ErrNoTransaction
	case supports:
		return fn(ctx)
	case required, requiresNew, nested, notSupported, never:
	}
	s, err := m.defaults.with(opts)
	if err != nil {
		return err
	}
	return m.runTx(ctx, fn, s)
}

// activeKey is the context key of the innermost scope of any database.
type activeKey struct{}

// activeScope returns the innermost scope of any database that ctx carries.
func activeScope(ctx context.Context) (*scope, error) {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return nil, ErrNoTransaction
	}
	if s.ended() {
		return nil, ErrTxDone
	}
	return s, nil
}

// withoutTx is a context that hides the transactions of a manager's database.
type withoutTx struct {
	context.Context //nolint:containedctx // it is a context

	m *Manager
}

// Value returns no scope of the manager's database.
func (c *withoutTx) Value(key any) any {
	switch key {
	case c.m.key:
		return nil
	case activeKey{}:
		return c.m.scopeOfOtherDatabase(c.Context)
	case withoutTxKey{}:
		return true
	}
	return c.Context.Value(key)
}

// scopeOfOtherDatabase returns the innermost scope that ctx carries for another database than the manager's, or nil.
func (m *Manager) scopeOfOtherDatabase(ctx context.Context) any {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return nil
	}
	if s.t.m.key != m.key {
		return s
	}
	return m.scopeOfOtherDatabase(s.Context)
}

// Detach returns a context for work that outlives the transaction in which it was started. The context carries the values of
// ctx but no transaction of any database, and it doesn't end when ctx ends. Give it a timeout.
func Detach(ctx context.Context) context.Context { return detached{context.WithoutCancel(ctx)} }

type detached struct {
	context.Context //nolint:containedctx // it is a context
}

// Value returns no scope.
func (d detached) Value(key any) any {
	switch key.(type) {
	case scopeKey, activeKey:
		return nil
	case withoutTxKey:
		return true
	}
	return d.Context.Value(key)
}
