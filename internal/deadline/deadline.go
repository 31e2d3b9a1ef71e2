// Package deadline reserves a part of a context's time for what has to run after the work.
package deadline

import (
	"context"
	"time"
)

const (
	reservedShare   = 10 // one tenth
	minimumReserved = 500 * time.Millisecond
)

// WithMargin returns a context that ends before ctx's deadline. The margin is 10 % of the remaining time, but at least 500 ms
// and at most 50 %. Without a deadline, only its cancel function and ctx end it.
//
// Fx needs the margin: it runs no stop hook once the start's context has expired, and no further stop hook once the stop's
// context has.
func WithMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(end)
	margin := min(max(left/reservedShare, minimumReserved), left/2) //nolint:mnd // half
	return context.WithDeadline(ctx, end.Add(-margin))
}
