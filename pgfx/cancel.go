package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// cancelTimeout is how long a statement may take to end after a cancel request before its connection is closed.
const cancelTimeout = time.Second

// cancelHandler returns the handler for statements whose ctx ends. It sends a cancel request to the server, so the connection
// survives.
func (c Config) cancelHandler(conn *pgconn.PgConn) ctxwatch.Handler {
	if c.Pooler == PoolerTransaction {
		return &poolerCancelHandler{conn: conn}
	}
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
}

// poolerCancelHandler sends cancel requests through a transaction pooler. Unlike pgx's handler it always waits until the
// request has been processed, even if the statement ended first. Otherwise the request could hit another client, to which
// the pooler has assigned the session meanwhile. PgBouncer 1.18 also crashes if the sender disconnects while it forwards
// the request.
type poolerCancelHandler struct {
	conn *pgconn.PgConn
	sent chan struct{}
}

// HandleCancel is called when the ctx of a running statement ends.
func (h *poolerCancelHandler) HandleCancel(context.Context) {
	deadline := time.Now().Add(cancelTimeout)
	_ = h.conn.Conn().SetDeadline(deadline) // fails only on a broken socket, which ends the statement anyway
	h.sent = make(chan struct{})
	go func() { //nolint:gosec // the given ctx has ended, so the request needs its own
		defer close(h.sent)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		_ = h.conn.CancelRequest(ctx) // if it fails, the deadline ends the statement
	}()
}

// HandleUnwatchAfterCancel is called when that statement has ended.
func (h *poolerCancelHandler) HandleUnwatchAfterCancel() {
	<-h.sent
	_ = h.conn.Conn().SetDeadline(time.Time{}) // fails only on a broken socket
}
