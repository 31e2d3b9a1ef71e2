// Package testctx provides contexts for tests of deadlines whose result does not depend on the speed of the machine.
package testctx

import (
	"context"
	"sync"
	"time"
)

// Expiring returns a context that ends with context.DeadlineExceeded when the test calls expire. It has no deadline. It has the
// values of parent and does not end with it.
func Expiring(parent context.Context) (ctx context.Context, expire func()) {
	done := make(chan struct{})
	return expiring{parent, done}, sync.OnceFunc(func() { close(done) })
}

type expiring struct {
	context.Context //nolint:containedctx // the type is a context

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

// Unending returns a context whose Deadline is left from now, but which never ends. Code that stops at a margin before the
// deadline does so, and has unlimited time for what it does within the margin. Code without such a margin blocks.
func Unending(parent context.Context, left time.Duration) context.Context {
	return unending{parent, time.Now().Add(left)}
}

type unending struct {
	context.Context //nolint:containedctx // the type is a context

	deadline time.Time
}

func (c unending) Deadline() (time.Time, bool) { return c.deadline, true }
