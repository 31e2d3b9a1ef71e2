package txn

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// scopeKey is the context key of a database's innermost scope. The pool identifies the database for its whole life.
type scopeKey struct{ pool *pgxpool.Pool }

// scope is a part of a transaction that can be rolled back alone: the whole transaction, or the part since a savepoint. It is
// the context of its closure: the caller's context with the scope in it.
type scope struct {
	context.Context //nolint:containedctx // a scope is a context

	t         *transaction
	parent    *scope      // nil for the whole transaction
	savepoint int32       // its number; 0 for the whole transaction
	closed    atomic.Bool // only of an inner scope

	// These are guarded by t.mu.
	rollbackOnly error // why the scope can't be committed
	hooks        *hooks
}

// Value returns the scope for its manager's key.
func (s *scope) Value(key any) any {
	if key == s.t.m.key || key == any(activeKey{}) {
		return s
	}
	return s.Context.Value(key)
}

func (s *scope) ended() bool { return s.closed.Load() || s.t.use.done.Load() }

// setRollbackOnly marks the scope as one that can only be rolled back. The first cause stays.
func (s *scope) setRollbackOnly(cause error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.rollbackOnly == nil {
		s.rollbackOnly = cause
	}
}

// rollbackCause returns why the scope can only be rolled back, nil if it can be committed.
func (s *scope) rollbackCause() error {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.rollbackOnly
}

// join calls fn in the scope, and marks the scope rollback-only unless fn returns nil.
func (s *scope) join(ctx context.Context, fn func(context.Context) error) error {
	returned := false
	defer func() {
		if !returned {
			s.setRollbackOnly(errAbandoned)
		}
	}()
	err := sqlstate.WithContextError(ctx, fn(ctx))
	returned = true
	if err != nil {
		s.setRollbackOnly(err)
	}
	return err
}

// nest calls fn in an inner scope, which begins at a savepoint.
func (s *scope) nest(ctx context.Context, fn func(context.Context) error) error {
	inner := &scope{Context: ctx, t: s.t, parent: s}
	if err := inner.open(); err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			inner.rollBack(errAbandoned)
		}
	}()
	err := sqlstate.WithContextError(ctx, fn(inner))
	returned = true
	return inner.end(err)
}

// errScopeOpen is returned when a second inner scope is opened beside an open one.
var errScopeOpen = errors.Join(errors.New("txn: another Nested scope of this transaction is still open: "+
	"use the context of its closure inside it, and don't run two scopes at once"), ErrConcurrentUse)

// open sets the savepoint.
func (s *scope) open() error {
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

// close makes the scope's context unusable.
func (s *scope) close() {
	s.closed.Store(true)
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.innermost = s.parent
}

// end releases the savepoint, or rolls back to it if err isn't nil or the changes can't be kept. It returns the error for Do's
// caller.
func (s *scope) end(err error) error {
	if err == nil {
		err = s.commitBlocker()
	}
	if err == nil {
		if err = s.t.release(s.Context, s.savepoint); err == nil {
			s.promoteHooks()
			s.close()
			return nil
		}
	}
	s.rollBack(err)
	return err
}

// commitBlocker returns why the changes of a scope whose closure returned nil can't be kept.
func (s *scope) commitBlocker() error {
	if cause := s.rollbackCause(); cause != nil {
		return &RollbackOnlyError{Cause: cause}
	}
	if err := s.t.use.begin(); err != nil {
		return err
	}
	defer s.t.use.finish()
	pg := s.t.conn.Conn().PgConn()
	if pg.IsClosed() {
		return s.t.connLostError()
	}
	if pg.TxStatus() == statusFailed {
		return &FailedStatementError{Cause: s.t.failure}
	}
	return nil
}

// canCommit reports whether nothing is known to prevent the commit.
func (s *scope) canCommit() bool { return s.Err() == nil && s.commitBlocker() == nil }

// rollBack rolls back to the savepoint. If that fails, the parent becomes rollback-only.
func (s *scope) rollBack(cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context), cleanupTimeout)
	defer cancel()
	if err := s.t.rollBackTo(ctx, s.savepoint); err != nil {
		s.parent.setRollbackOnly(errors.Join(cause, err))
	}
	hooks := s.takeHooks()
	s.close()
	hooks.afterRollback(s.Context, cause)
}
