package pgfx

import (
	"cmp"
	"context"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

const (
	// cancelTimeout bounds a cancel request, and how long the socket of a connection that was given up stays open for it.
	cancelTimeout = time.Second

	// When the ctx of a running statement ends, its caller waits this many round trips for the statement to be cancelled, within
	// the two bounds. Then the connection is given up.
	graceRoundTrips = 4
	minGrace        = 50 * time.Millisecond
	maxGrace        = 150 * time.Millisecond
)

// canceler ends the work of one connection when its ctx ends. Each connection has one, in the pool and outside it.
//
//   - If the server is idle, as in WaitForNotification, the read ends at once. The connection stays usable.
//   - If the server is working, the canceler sends a cancel request. A statement that ends in time leaves the connection usable.
//     Otherwise the read ends with the ctx's error, and pgx closes the connection in the background.
type canceler struct {
	db     *DB
	conn   *pgconn.PgConn
	socket *socket // nil if it is unknown

	grace time.Duration // of the running cancel request
	sent  chan struct{} // closed when the server has processed the request, or the request has failed; nil if there is none
}

// addCanceler gives the connections that are opened with cc their cancelers.
func (db *DB) addCanceler(cc *pgx.ConnConfig) {
	addSocket(cc)
	build := cc.BuildFrontend
	cc.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		observed := &wire{r: r, w: w}
		if s := socketOf(w); s != nil {
			s.wire = observed
		}
		return build(observed, observed)
	}
	cc.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &canceler{db: db, conn: conn, socket: socketOf(conn.Conn())}
	}
}

// busy reports whether the server is working on a statement, or may be.
func (c *canceler) busy() bool {
	return c.socket == nil || c.socket.wire == nil || c.socket.wire.busy.Load()
}

// HandleCancel is called when the ctx of a call ends.
func (c *canceler) HandleCancel(context.Context) {
	socket := c.conn.Conn()
	if !c.busy() {
		_ = socket.SetDeadline(time.Now()) // fails only on a broken socket, which ends the call anyway
		return
	}
	c.grace = cmp.Or(c.db.config.Timeouts.Cancel, cancelGrace(socket))
	_ = socket.SetDeadline(time.Now().Add(c.grace)) // as above
	sent := make(chan struct{})
	c.sent = sent
	go func() {
		defer close(sent)
		ctx, cancel := context.WithTimeout(context.WithValue(c.db.requestContext(), ownRequest{}, c.socket), cancelTimeout)
		defer cancel()
		_ = c.conn.CancelRequest(ctx) // if it fails, the deadline ends the statement
	}()
}

// requestContext returns the context of a cancel request.
func (db *DB) requestContext() context.Context {
	if db.sockets.Err() != nil { // the DB was closed, but not this connection: it was hijacked, or is held too long
		return context.Background()
	}
	return db.sockets
}

// cancelGrace returns the default of Timeouts.Cancel.
func cancelGrace(socket net.Conn) time.Duration {
	return min(max(graceRoundTrips*poolstats.RoundTrip(socket), minGrace), maxGrace)
}

// HandleUnwatchAfterCancel is called when that call has ended, or is about to end with an error. Before a connection is used
// again, the server must have processed the cancel request, which would otherwise hit the next statement. If it has not in
// time, the connection is given up. The request itself is never interrupted: PgBouncer 1.18 crashes if the sender disconnects
// while it forwards one.
func (c *canceler) HandleUnwatchAfterCancel() {
	socket := c.conn.Conn()
	_ = socket.SetDeadline(time.Time{}) // fails only on a broken socket
	if c.sent == nil {
		return
	}
	if c.busy() { // pgx closes the connection, and waits up to 15 s for the server's end of it
		c.db.closeLater(socket)
	} else {
		if c.requestProcessed() {
			if c.socket != nil {
				c.socket.noRequest.Store(false)
			}
		} else {
			c.db.closeLater(socket)
			_ = c.conn.Close(context.Background()) // the connection is given up: its error does not matter
		}
	}
	c.sent = nil
}

// requestProcessed waits until the server has processed the cancel request, and reports whether it has in time.
func (c *canceler) requestProcessed() bool {
	timer := time.NewTimer(c.grace)
	defer timer.Stop()
	select {
	case <-c.sent:
		return true
	case <-timer.C:
		return false
	}
}

// closeLater closes a socket after cancelTimeout, or when Close has no time left, unless it has been closed by then.
func (db *DB) closeLater(socket net.Conn) {
	ctx, cancel := context.WithTimeout(db.sockets, cancelTimeout)
	context.AfterFunc(ctx, func() {
		cancel()
		_ = socket.Close() // the connection is given up: its error does not matter
	})
}
