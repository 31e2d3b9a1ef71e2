package pgfx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
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
	began  time.Duration // times are those of poolstats.Collector.Now

	timeoutErr atomic.Pointer[AcquireTimeoutError]

	// Set when a connection has been found.
	conn   *poolstats.Conn
	found  time.Duration
	waited time.Duration // 0 if the connection was idle when the acquire began

	rejected int // connections that failed validation
	// counted is set while the acquire counts as waiting, for Pool.MaxWaiting.
	counted bool
}

func (db *DB) newAcquireCtx(caller context.Context) *acquireCtx {
	now := db.stats.Now()
	c := &acquireCtx{Context: caller, caller: caller, db: db, began: now, found: now, counted: db.waitLimit.most > 0}
	if db.acquireTimeout <= 0 {
		return c
	}
	if caller.Done() == nil {
		c.Context = db.acquireTimeouts.context(now, db.acquireTimeout)
		return c
	}
	deadline := time.Now().Add(db.acquireTimeout)
	if own, ok := caller.Deadline(); !ok || deadline.Before(own) {
		c.Context, c.cancel = context.WithDeadline(caller, deadline)
	}
	return c
}

// find notes that the pool has found a connection. The acquire has waited for it unless it was idle all the time.
func (c *acquireCtx) find(conn *connState) {
	c.endWait()
	c.conn = conn.stats
	if conn.idleSince > c.began {
		c.found = c.db.stats.Now()
		c.waited = c.found - c.began
	}
}

// endWait ends the time for which the acquire counts as waiting.
func (c *acquireCtx) endWait() {
	if c.counted {
		c.counted = false
		c.db.waitLimit.end()
	}
}

// sharedTimeout returns contexts that end after a timeout. Acquires that begin at about the same time share one.
type sharedTimeout struct {
	current atomic.Pointer[timeoutCtx]
	mu      sync.Mutex // held while current is replaced
}

type timeoutCtx struct {
	context.Context //nolint:containedctx // shared by acquires

	renewAt time.Duration
}

// context returns a context that ends after timeout, or up to 3 % later.
func (s *sharedTimeout) context(now, timeout time.Duration) context.Context {
	if shared := s.current.Load(); shared != nil && now < shared.renewAt {
		return shared.Context
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if shared := s.current.Load(); shared != nil && now < shared.renewAt {
		return shared.Context
	}
	precision := timeout / 32 //nolint:mnd // about 3 %
	ctx, cancel := context.WithTimeout(context.Background(), timeout+precision)
	context.AfterFunc(ctx, cancel)
	s.current.Store(&timeoutCtx{ctx, now + precision})
	return ctx
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
	if c.timeoutErr.Load() == nil {
		c.timeoutErr.CompareAndSwap(nil, c.db.newAcquireTimeoutError(c.db.stats.Now()-c.began))
	}
	return c.timeoutErr.Load()
}

// maxHolders is how many leases an AcquireTimeoutError names.
const maxHolders = 3

func (db *DB) newAcquireTimeoutError(waited time.Duration) *AcquireTimeoutError {
	stat := db.pool.Stat()
	leases := db.Leases()
	return &AcquireTimeoutError{
		Waited: waited, Max: int(stat.MaxConns()), InUse: int(stat.AcquiredConns()), Connecting: int(stat.ConstructingConns()),
		Holders: leases[:min(len(leases), maxHolders)], Cause: db.outage(),
	}
}

// refusedCtx is a context that has ended with the error of the gate or of a guard. The pool checks the context of an acquire
// first, so the acquire fails at once and without dialing.
type refusedCtx struct {
	context.Context //nolint:containedctx // for its values

	done chan struct{}
	err  error
}

// newRefusedCtx returns a refusedCtx with err, and with the error of the caller's ctx if that has ended too.
func newRefusedCtx(caller context.Context, err error) *refusedCtx {
	if ended := caller.Err(); ended != nil {
		err = fmt.Errorf("%w: %w", err, ended)
	}
	c := &refusedCtx{Context: caller, done: make(chan struct{}), err: err}
	close(c.done)
	return c
}

func (c *refusedCtx) Done() <-chan struct{} { return c.done }

func (c *refusedCtx) Err() error { return c.err }
