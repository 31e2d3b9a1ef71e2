package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// cancelHandler returns what ends a running statement when its ctx ends: by asking the server to cancel it, so that the
// connection survives.
func (c Config) cancelHandler(pg *pgconn.PgConn) ctxwatch.Handler {
	if c.Pooler == PoolerTransaction {
		return &pooledCancel{conn: pg}
	}
	return &pgconn.CancelRequestContextWatcherHandler{Conn: pg, DeadlineDelay: cancelDeadline}
}

// pooledCancel asks through a pooler. Unlike pgx's own handler it waits until the request has been dealt with, even when the
// statement has ended before: the session may be somebody else's right after that, and PgBouncer 1.18 crashes when whoever
// has sent a request goes away while it is being forwarded.
type pooledCancel struct {
	conn *pgconn.PgConn
	sent chan struct{}
}

// HandleCancel is called when the ctx of a running statement ends.
func (h *pooledCancel) HandleCancel(context.Context) {
	deadline := time.Now().Add(cancelDeadline)
	_ = h.conn.Conn().SetDeadline(deadline) // a broken socket ends the statement by itself
	h.sent = make(chan struct{})
	go func() { //nolint:gosec // the ctx has ended: that is what is to be told
		defer close(h.sent)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		_ = h.conn.CancelRequest(ctx) // when it fails the deadline ends the connection
	}()
}

// HandleUnwatchAfterCancel is called when that statement has ended.
func (h *pooledCancel) HandleUnwatchAfterCancel() {
	<-h.sent
	_ = h.conn.Conn().SetDeadline(time.Time{}) // as above
}
