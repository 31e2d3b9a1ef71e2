package pgfx

import (
	"context"
	"sync/atomic"
	"time"
)

// Gate decides whether the pool may be used. While it is shut every acquire and every dial of the pool fails at once with
// an [*UnavailableError], for users of the raw pool too; connections made by [DB.Connect] pass. It is shut until Start,
// opened by a successful start, and then driven by the health monitor.
//
// A Gate is safe for concurrent use.
type Gate struct {
	shut atomic.Pointer[UnavailableError]
}

// Open lets everybody through. It does not open a gate that Close has shut for good.
func (g *Gate) Open() {
	for {
		current := g.shut.Load()
		if current == nil || current.Cause == ErrClosed { //nolint:errorlint // our own sentinel, set by Close
			return
		}
		if g.shut.CompareAndSwap(current, nil) {
			return
		}
	}
}

// Shut makes acquires and dials fail with an UnavailableError of this cause. When the gate is shut already, the cause is
// replaced and the time it has been shut since stays.
func (g *Gate) Close(cause error) {
	next := &UnavailableError{Cause: cause, Since: time.Now()}
	for {
		current := g.shut.Load()
		if current != nil {
			if current.Cause == ErrClosed { //nolint:errorlint // our own sentinel, set by Close
				return
			}
			next.Since = current.Since
		}
		if g.shut.CompareAndSwap(current, next) {
			return
		}
	}
}

// Err returns nil while the gate is open, else the *UnavailableError that callers get.
func (g *Gate) Err() error {
	if shut := g.shut.Load(); shut != nil {
		return shut
	}
	return nil
}

// gateCtx is a ctx that has ended with the gate's or the guard's error. Handed to the pool by the acquire tracer, it makes an acquire fail
// at once: puddle answers a finished ctx with ctx.Err().
type gateCtx struct {
	context.Context //nolint:containedctx // it is a ctx

	err error
}

// Done returns a channel that is closed. It is made for each call: a refused acquire asks once.
func (c *gateCtx) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (c *gateCtx) Err() error { return c.err }
