package txn

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

// scopeKey is what contexts carry a scope under. The pool stands for the database: it is the same value for the database's
// whole life.
type scopeKey struct{ pool *pgxpool.Pool }

// scope is a part of a transaction that can be undone by itself: the whole, or what comes after a savepoint. It is the
// context of its closure, which is the caller's with the scope in it; that it is a context spares the allocation of one.
type scope struct {
	context.Context //nolint:containedctx // it is a ctx

	t         *transaction
	parent    *scope      // nil for the whole
	savepoint int32       // its number, 0 for the whole
	ended     atomic.Bool // of an inner scope

	// What follows is guarded by t.mu.
	forbidden error // why this can't be committed
	hooks     *hooks
}

// Value returns the scope for its manager's key.
func (s *scope) Value(key any) any {
	if key == s.t.m.key || key == any(activeKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// over reports whether the scope has ended.
func (s *scope) over() bool { return s.ended.Load() || s.t.state.Load() >= stateEnding }

// forbid notes why the scope can't be committed; the first reason stays.
func (s *scope) forbid(why error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.forbidden == nil {
		s.forbidden = why
	}
	s.t.noted.Store(true)
}

func (s *scope) whyForbidden() error {
	if !s.t.noted.Load() {
		return nil
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.forbidden
}

// join calls fn in the scope. When fn doesn't return nil, the scope can't be committed any more.
func (s *scope) join(ctx context.Context, fn func(context.Context) error) error {
	returned := false
	defer func() {
		if !returned {
			s.forbid(errAbandoned)
		}
	}()
	err := fn(ctx)
	returned = true
	if err != nil {
		s.forbid(err)
	}
	return err
}

// nest calls fn in a scope of its own behind a savepoint.
func (s *scope) nest(ctx context.Context, fn func(context.Context) error) error {
	inner := &scope{Context: ctx, t: s.t, parent: s}
	if err := inner.enter(); err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			inner.undo(errAbandoned)
		}
	}()
	err := fn(inner)
	returned = true
	return inner.leave(err)
}

// errScopeOpen is returned when a scope that has an open scope in it is to get another one.
var errScopeOpen = errors.Join(errors.New("txn: a Nested scope of this transaction is still open: "+
	"use the context of its closure inside of it, and don't run two of them at once"), ErrConcurrentUse)

// enter sets the savepoint.
func (s *scope) enter() error {
	s.t.mu.Lock()
	if s.t.innermost != s.parent {
		s.t.mu.Unlock()
		return errScopeOpen
	}
	s.t.innermost = s
	s.t.mu.Unlock()
	var err error
	if s.savepoint, err = s.t.savepoint(s.Context); err != nil {
		s.close()
	}
	return err
}

// close ends the scope: its context is useless from now on.
func (s *scope) close() {
	s.ended.Store(true)
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.innermost = s.parent
}

// leave releases the savepoint, or undoes the scope when err or something else is in the way. It returns what Do returns.
func (s *scope) leave(err error) error {
	if err == nil {
		err = s.obstacle()
	}
	if err == nil {
		if err = s.t.release(s.Context, s.savepoint); err == nil {
			s.bequeath()
			s.close()
			return nil
		}
	}
	s.undo(err)
	return err
}

// obstacle returns why a scope whose closure returned nil can't be kept.
func (s *scope) obstacle() error {
	if cause := s.whyForbidden(); cause != nil {
		return &RollbackOnlyError{Cause: cause}
	}
	if err := s.t.enter(); err != nil {
		return err
	}
	defer s.t.leave(stateCalling)
	pg := s.t.conn.Conn().PgConn()
	if pg.IsClosed() {
		return s.t.lost()
	}
	if pg.TxStatus() == statusFailed {
		return &FailedStatementError{Cause: s.t.failed}
	}
	return nil
}

// unobstructed reports whether the scope can be kept as far as is known.
func (s *scope) unobstructed() bool { return s.Err() == nil && s.obstacle() == nil }

// undo rolls back to the savepoint. When that can't be done, nothing of the transaction can be kept.
func (s *scope) undo(cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context), cleanupTimeout)
	defer cancel()
	if err := s.t.rollBackTo(ctx, s.savepoint); err != nil {
		s.parent.forbid(errors.Join(cause, err))
	}
	hooks := s.takeHooks()
	s.close()
	hooks.afterRollback(s.Context, cause)
}
