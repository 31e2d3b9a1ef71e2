package pgfx

import (
	"context"
	"errors"
	"sync"
	"time"
)

// acquireCtx bounds one acquire of the pool by the configured timeout and ends with a typed error. The acquire tracer
// hands it to the pool in place of the caller's ctx, so that users of the raw pool get the timeout too.
//
// The first call of Done comes from puddle's check whether the ctx has ended already, which nearly every acquire passes
// without waiting: it gets the caller's channel. Whoever asks again is going to wait, and only then are a timer and a
// channel made.
type acquireCtx struct {
	context.Context //nolint:containedctx // it is a ctx

	db      *DB
	started time.Time

	mu       sync.Mutex
	asked    bool
	done     chan struct{}
	err      error
	timer    *time.Timer
	unlinked func() bool
}

func (c *acquireCtx) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked {
		c.asked = true
		return c.Context.Done()
	}
	if c.done == nil {
		c.done = make(chan struct{})
		if timeout := c.db.acquireTimeout; timeout > 0 {
			c.timer = time.AfterFunc(time.Until(c.started.Add(timeout)), func() { c.end(context.DeadlineExceeded) })
		}
		c.unlinked = context.AfterFunc(c.Context, func() { c.end(c.Context.Err()) })
	}
	return c.done
}

// end finishes the ctx. A deadline, the pool's own or the caller's, becomes an AcquireTimeoutError: only here is it known
// that the time went by waiting for a connection and not in a slow statement.
func (c *acquireCtx) end(cause error) {
	if errors.Is(cause, context.DeadlineExceeded) {
		cause = c.db.acquireTimeoutError(time.Since(c.started))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = cause
		close(c.done)
	}
}

func (c *acquireCtx) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.done != nil {
		return nil // ends by end only, so that Done and Err agree
	}
	return c.Context.Err()
}

// Deadline is the caller's or the pool's, whichever is earlier.
func (c *acquireCtx) Deadline() (time.Time, bool) {
	deadline, ok := c.Context.Deadline()
	if timeout := c.db.acquireTimeout; timeout > 0 {
		if own := c.started.Add(timeout); !ok || own.Before(deadline) {
			return own, true
		}
	}
	return deadline, ok
}

// release stops what Done started; the acquire is over.
func (c *acquireCtx) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.unlinked != nil {
		c.unlinked()
	}
}

// oldestHolders is how many leases an AcquireTimeoutError names.
const oldestHolders = 3

func (db *DB) acquireTimeoutError(waited time.Duration) *AcquireTimeoutError {
	stat := db.pool.Stat()
	leases := db.Leases()
	return &AcquireTimeoutError{
		Waited: waited, Max: int(stat.MaxConns()), InUse: int(stat.AcquiredConns()), Connecting: int(stat.ConstructingConns()),
		Holders: leases[:min(len(leases), oldestHolders)],
	}
}
