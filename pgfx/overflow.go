package pgfx

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// overflow keeps count of the pool's connections, so that those above its regular size are closed when they are returned.
// pgxpool's own hook for that, AfterRelease, would start a goroutine for each release; the release tracer does it in place.
type overflow struct {
	regular int64
	open    atomic.Int64
}

// farewell bounds the message that ends a session, which waits only when the socket's buffer is full.
const farewell = 100 * time.Millisecond

// opened counts a new connection.
func (o *overflow) opened() { o.open.Add(1) }

// closing discounts a connection that the pool closes, unless trim has.
func (o *overflow) closing(state *connState) {
	if state != nil && !state.trimmed {
		o.open.Add(-1)
	}
}

// trim closes a connection that is being returned when there are more than the regular number; pgxpool then drops it.
func (o *overflow) trim(conn *pgx.Conn, state *connState) {
	for {
		open := o.open.Load()
		if open <= o.regular {
			return
		}
		if o.open.CompareAndSwap(open, open-1) {
			break
		}
	}
	state.trimmed = true
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = conn.Close(ctx) // it is given up: nobody can act on an error
}
