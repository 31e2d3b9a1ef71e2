package pgfx

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// acquireCtx bounds one acquire of the pool by the configured timeout and ends with a typed error. The acquire tracer
// hands it to the pool in place of the caller's ctx, so that users of the raw pool get the timeout too.
//
// The first call of Done comes from puddle's check whether the ctx has ended already, which nearly every acquire passes
// without waiting: it gets the caller's channel. Whoever asks again is going to wait, and only then does an acquireWait
// come to be. An acquire that needs no waiting costs this one small value, which the watch uses again.
type acquireCtx struct {
	context.Context //nolint:containedctx // it is a ctx

	db    *DB
	asked bool // set by the first call of Done, before there is anybody else who could make one
	wait  atomic.Pointer[acquireWait]

	// state is that of the connection that was found, at the time when it was, on the DB's clock.
	state *connState
	at    time.Duration
}

// acquireWait is the waiting of one acquire.
type acquireWait struct {
	started time.Time
	done    chan struct{}
	timer   *time.Timer
	unlink  func() bool

	mu  sync.Mutex
	err error
}

func (c *acquireCtx) Done() <-chan struct{} {
	if wait := c.wait.Load(); wait != nil {
		return wait.done
	}
	if !c.asked {
		c.asked = true
		return c.Context.Done()
	}
	wait := &acquireWait{started: time.Now(), done: make(chan struct{})}
	if !c.wait.CompareAndSwap(nil, wait) {
		return c.wait.Load().done
	}
	c.db.counters.waiting.Add(1)
	wait.mu.Lock() // end, which may be called at once, comes after this
	defer wait.mu.Unlock()
	if timeout := c.db.acquireTimeout; timeout > 0 {
		wait.timer = time.AfterFunc(timeout, func() { c.end(wait, context.DeadlineExceeded) })
	}
	wait.unlink = context.AfterFunc(c.Context, func() { c.end(wait, c.Context.Err()) })
	return wait.done
}

// end finishes the ctx. A deadline, the pool's own or the caller's, becomes an AcquireTimeoutError: only here is it known
// that the time went by waiting for a connection and not in a slow statement.
func (c *acquireCtx) end(wait *acquireWait, cause error) {
	if errors.Is(cause, context.DeadlineExceeded) {
		cause = c.db.acquireTimeoutError(time.Since(wait.started))
	}
	wait.mu.Lock()
	defer wait.mu.Unlock()
	if wait.err == nil {
		wait.err = cause
		close(wait.done)
	}
}

// Err agrees with Done: once somebody waits, it is end that decides.
func (c *acquireCtx) Err() error {
	wait := c.wait.Load()
	if wait == nil {
		return c.Context.Err()
	}
	wait.mu.Lock()
	defer wait.mu.Unlock()
	return wait.err
}

// Deadline is the caller's or the pool's, whichever is earlier.
func (c *acquireCtx) Deadline() (time.Time, bool) {
	deadline, ok := c.Context.Deadline()
	if timeout := c.db.acquireTimeout; timeout > 0 {
		started := time.Now()
		if wait := c.wait.Load(); wait != nil {
			started = wait.started
		}
		if own := started.Add(timeout); !ok || own.Before(deadline) {
			return own, true
		}
	}
	return deadline, ok
}

// over stops what waiting has started and returns how long it took. It returns false when nobody had to wait.
func (c *acquireCtx) over() (time.Duration, bool) {
	wait := c.wait.Load()
	if wait == nil {
		return 0, false
	}
	c.db.counters.waiting.Add(-1)
	wait.mu.Lock()
	defer wait.mu.Unlock()
	if wait.timer != nil {
		wait.timer.Stop()
	}
	if wait.unlink != nil {
		wait.unlink()
	}
	return time.Since(wait.started), true
}

// oldestHolders is how many leases an AcquireTimeoutError names.
const oldestHolders = 3

func (db *DB) acquireTimeoutError(waited time.Duration) *AcquireTimeoutError {
	stat := db.pool.Stat()
	leases := db.Leases()
	if slices.ContainsFunc(leases, func(l Lease) bool { return len(l.Stack) == 0 }) {
		db.wantsStacks.Store(true)
	}
	return &AcquireTimeoutError{
		Waited: waited, Max: int(stat.MaxConns()), InUse: int(stat.AcquiredConns()), Connecting: int(stat.ConstructingConns()),
		Holders: leases[:min(len(leases), oldestHolders)],
	}
}
