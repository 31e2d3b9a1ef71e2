package txn

import (
	"context"
	"errors"
	"fmt"
)

// propagation says what a Do does about the transaction that its context carries, or doesn't.
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
			return fmt.Errorf("txn: %s and %s contradict each other; choose one", s.propagation, p)
		}
		s.propagation = p
		return nil
	}}
}

// Required joins the transaction that the context carries, and begins one when there is none. It is what Do does without
// any of these options.
func Required() Option { return propagate(required) }

// RequiresNew begins a transaction of its own on a second connection, whatever the context carries. Both end independently
// of each other. The new one doesn't see what the outer one has done, and waits for ever for its locks: PostgreSQL can't
// know that the one waits for the other. The pool must have a connection to spare for every transaction that does this.
func RequiresNew() Option { return propagate(requiresNew) }

// Nested runs the closure behind a savepoint of the transaction that the context carries: when it fails, only what it has
// done is undone, and the outer closure may go on. Without a transaction it begins one.
func Nested() Option { return propagate(nested) }

// Mandatory joins the transaction that the context carries; without one, Do returns [ErrNoTransaction].
func Mandatory() Option { return propagate(mandatory) }

// Supports joins the transaction that the context carries; without one, the closure runs in none. Other options count only
// when there is one to join.
func Supports() Option { return propagate(supports) }

// NotSupported runs the closure in no transaction: what the closure does is done on the pool, at once and for good. It
// takes no other options. A transaction that the caller's context carries goes on afterwards; meanwhile it keeps its
// connection.
func NotSupported() Option { return propagate(notSupported) }

// Never runs the closure in no transaction; when the context carries one, Do returns [ErrInTransaction]. It takes no other
// options.
func Never() Option { return propagate(never) }

var (
	// ErrNoTransaction is returned where a transaction is needed and the context carries none.
	ErrNoTransaction = errors.New("txn: the context carries no transaction: call this in the closure of a Do, with its context")
	// ErrInTransaction is returned by a Do with [Never] inside of a transaction.
	ErrInTransaction = errors.New("txn: the context carries a transaction, and Never was asked for")
)

// do is Do when options were given.
func (m *Manager) do(ctx context.Context, current *scope, fn func(context.Context) error, opts []Option) error {
	given, err := (&settings{}).with(opts)
	if err != nil {
		return err
	}
	switch given.propagation {
	case notSupported, never:
		return m.without(ctx, current, fn, given)
	case requiresNew:
		if current != nil && m.maxConns == 1 {
			return errors.New("txn: RequiresNew needs a second connection, and the pool has one; raise Config.Pool.MaxConns")
		}
		if current != nil {
			ctx, current = &outside{Context: ctx, m: m}, nil
		}
	case required, nested, mandatory, supports:
	}
	if current == nil {
		return m.first(ctx, fn, given, opts)
	}
	if err := current.t.terms.conflict(given); err != nil {
		return err
	}
	if given.propagation == nested {
		return current.nest(ctx, fn)
	}
	return current.join(ctx, fn)
}

// without calls fn in no transaction.
func (m *Manager) without(ctx context.Context, current *scope, fn func(context.Context) error, given *settings) error {
	if *given != (settings{propagation: given.propagation}) {
		return fmt.Errorf("txn: %s begins no transaction, so that other options are pointless; remove them", given.propagation)
	}
	if current == nil {
		return fn(ctx)
	}
	if given.propagation == never {
		return ErrInTransaction
	}
	return fn(&outside{Context: ctx, m: m})
}

// first calls fn where there is no transaction to join.
func (m *Manager) first(ctx context.Context, fn func(context.Context) error, given *settings, opts []Option) error {
	switch given.propagation {
	case mandatory:
		return ErrNoTransaction
	case supports:
		return fn(ctx)
	case required, requiresNew, nested, notSupported, never:
	}
	terms, err := m.defaults.with(opts)
	if err != nil {
		return err
	}
	terms.setBegin()
	return m.run(ctx, fn, terms)
}

// activeKey is what contexts carry the innermost scope of any database under.
type activeKey struct{}

// active returns the innermost scope that ctx carries, of whichever database.
func active(ctx context.Context) (*scope, error) {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return nil, ErrNoTransaction
	}
	if s.over() {
		return nil, ErrTxDone
	}
	return s, nil
}

// outside is a context that hides the transactions of a manager.
type outside struct {
	context.Context //nolint:containedctx // it is a ctx

	m *Manager
}

// Value returns no scope of the manager's database.
func (o *outside) Value(key any) any {
	switch key {
	case o.m.key:
		return nil
	case activeKey{}:
		return o.m.beyond(o.Context)
	}
	return o.Context.Value(key)
}

// beyond returns the innermost scope that isn't of the manager's database.
func (m *Manager) beyond(ctx context.Context) any {
	s, ok := ctx.Value(activeKey{}).(*scope)
	if !ok {
		return nil
	}
	if s.t.m.key != m.key {
		return s
	}
	return m.beyond(s.Context)
}

// Detach returns a context for work that outlives the transaction it was started in: it carries ctx's values but no
// transaction of any database, and doesn't end with ctx. Give it a timeout of its own.
func Detach(ctx context.Context) context.Context { return detached{context.WithoutCancel(ctx)} }

type detached struct {
	context.Context //nolint:containedctx // it is a ctx
}

// Value returns no scope.
func (d detached) Value(key any) any {
	switch key.(type) {
	case scopeKey, activeKey:
		return nil
	}
	return d.Context.Value(key)
}
