package pgfx

import (
	"context"
	"errors"
	"sync"
	"time"
)

// acquireCtx is the context that the pool uses for one acquire. It ends with the caller's context, or after
// Pool.AcquireTimeout. If it ends because of a deadline, its error is an [*AcquireTimeoutError]. That distinguishes a wait for a
// connection from a slow statement, which ends with the caller's deadline too.
//
// The pool may keep it after the acquire, for a connection that it still opens in the background. So it is never reused.
type acquireCtx struct {
	context.Context //nolint:containedctx // the context that ends this one

	caller context.Context    //nolint:containedctx // for its values
	cancel context.CancelFunc // nil if there is nothing to cancel
	db     *DB
	began  time.Time

	once       sync.Once
	timeoutErr error

	// Set when a connection has been found.
	found  time.Time
	waited time.Duration // 0 if the connection was idle when the acquire began
}

func (db *DB) newAcquireCtx(caller context.Context) *acquireCtx {
	c := &acquireCtx{Context: caller, caller: caller, db: db, began: time.Now()}
	if db.acquireTimeout <= 0 {
		return c
	}
	if caller.Done() == nil {
		c.Context = db.acquireTimeouts.context(c.began, db.acquireTimeout)
		return c
	}
	deadline := c.began.Add(db.acquireTimeout)
	if own, ok := caller.Deadline(); !ok || deadline.Before(own) {
		c.Context, c.cancel = context.WithDeadline(caller, deadline)
	}
	return c
}

// sharedTimeout returns contexts that end after a timeout. Acquires that begin at about the same time share one.
type sharedTimeout struct {
	mu      sync.Mutex
	current context.Context //nolint:containedctx // shared by acquires
	renewAt time.Time
}

// context returns a context that ends after timeout, or up to 3 % later.
func (s *sharedTimeout) context(now time.Time, timeout time.Duration) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now.Before(s.renewAt) {
		precision := timeout / 32 //nolint:mnd // about 3 %
		ctx, cancel := context.WithDeadline(context.Background(), now.Add(timeout+precision))
		context.AfterFunc(ctx, cancel)
		s.current, s.renewAt = ctx, now.Add(precision)
	}
	return s.current
}

// end releases the resources of the context.
func (c *acquireCtx) end() {
	if c.cancel != nil {
		c.cancel()
	}
}

// Value returns the caller's values.
func (c *acquireCtx) Value(key any) any { return c.caller.Value(key) }

// Err returns nil until Done is closed, and always the same error afterwards.
func (c *acquireCtx) Err() error {
	err := c.Context.Err()
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.once.Do(func() { c.timeoutErr = c.db.newAcquireTimeoutError(time.Since(c.began)) })
	return c.timeoutErr
}

// maxHolders is how many leases an AcquireTimeoutError names.
const maxHolders = 3

func (db *DB) newAcquireTimeoutError(waited time.Duration) *AcquireTimeoutError {
	stat := db.pool.Stat()
	leases := db.Leases()
	return &AcquireTimeoutError{
		Waited: waited, Max: int(stat.MaxConns()), InUse: int(stat.AcquiredConns()), Connecting: int(stat.ConstructingConns()),
		Holders: leases[:min(len(leases), maxHolders)],
	}
}

// refusedCtx is a context that has ended with the error of the gate or of a guard. The pool checks the context of an acquire
// first, so the acquire fails at once and without dialing.
type refusedCtx struct {
	context.Context //nolint:containedctx // for its values

	done chan struct{}
	err  error
}

func newRefusedCtx(caller context.Context, err error) *refusedCtx {
	c := &refusedCtx{Context: caller, done: make(chan struct{}), err: err}
	close(c.done)
	return c
}

func (c *refusedCtx) Done() <-chan struct{} { return c.done }

func (c *refusedCtx) Err() error { return c.err }
