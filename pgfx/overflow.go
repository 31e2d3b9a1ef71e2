package pgfx

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// overflow counts the pool's connections, so that those beyond its regular size are closed when they are released. The
// release tracer does that, because pgxpool's own hook, AfterRelease, starts a goroutine for each release.
type overflow struct {
	regular int64
	open    atomic.Int64
}

// terminateTimeout bounds sending the message that ends a session. Sending blocks only if the socket's buffer is full.
const terminateTimeout = 100 * time.Millisecond

// opened counts a new connection.
func (o *overflow) opened() { o.open.Add(1) }

// closing discounts a connection that the pool closes, unless trim has.
func (o *overflow) closing(state *connState) {
	if state != nil && !state.trimmed {
		o.open.Add(-1)
	}
}

// trim closes a connection that is being released if more than the regular number are open. pgxpool then drops it.
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
	ctx, cancel := context.WithTimeout(context.Background(), terminateTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is given up: its error does not matter
}
