package txn

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// scopeKey is what contexts carry a scope under. The pool stands for the database: it is the same value for the database's
// whole life.
type scopeKey struct{ pool *pgxpool.Pool }

// scope is the context of a closure: the caller's, and in it the scope itself. That it is a context spares the allocation
// of one.
type scope struct {
	context.Context //nolint:containedctx // it is a ctx

	t *transaction
}

// Value returns the scope for its manager's key.
func (s *scope) Value(key any) any {
	if key == s.t.m.key {
		return s
	}
	return s.Context.Value(key)
}

// join calls fn in the running transaction. When fn doesn't return nil, the transaction can't be committed any more.
func (s *scope) join(ctx context.Context, fn func(context.Context) error, opts []Option) error {
	if len(opts) > 0 {
		given, err := (&settings{}).with(opts)
		if err != nil {
			return err
		}
		if err := s.t.terms.conflict(given); err != nil {
			return err
		}
	}
	returned := false
	defer func() {
		if !returned {
			s.t.forbidCommit(errAbandoned)
		}
	}()
	err := fn(ctx)
	returned = true
	if err != nil {
		s.t.forbidCommit(err)
	}
	return err
}
