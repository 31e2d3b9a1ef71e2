// Package testctx makes contexts for tests: what a deadline does is looked at when the test is ready for it, however slow the
// machine is.
package testctx

import (
	"context"
	"sync"
	"time"
)

// Expiring returns a ctx that has no deadline and ends as if one had passed when expire is called. It has its parent's
// values, and doesn't end with it.
func Expiring(parent context.Context) (ctx context.Context, expire func()) {
	done := make(chan struct{})
	return expiring{parent, done}, sync.OnceFunc(func() { close(done) })
}

type expiring struct {
	context.Context //nolint:containedctx // it is a ctx

	done chan struct{}
}

func (c expiring) Deadline() (time.Time, bool) { return time.Time{}, false }

func (c expiring) Done() <-chan struct{} { return c.done }

func (c expiring) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Unending returns a ctx that says that it ends after so long, and doesn't. Who keeps a margin before a deadline keeps it, and
// what comes in the margin has all the time that it takes. Who keeps none waits for ever.
func Unending(parent context.Context, left time.Duration) context.Context {
	return unending{parent, time.Now().Add(left)}
}

type unending struct {
	context.Context //nolint:containedctx // it is a ctx

	deadline time.Time
}

func (c unending) Deadline() (time.Time, bool) { return c.deadline, true }
