package pgfx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// tracer is the DB's own pgx tracer, so it takes effect for users of the raw pool too. The embedded tracer counts statements.
// This one applies the gate, the guards and the timeout to acquires, and counts acquires and releases. Another pool that is made
// of a copy of the pool's configuration has the same tracer, which ignores that pool.
type tracer struct {
	poolstats.Tracer

	db *DB
}

var (
	_ pgxpool.AcquireTracer = tracer{}
	_ pgxpool.ReleaseTracer = tracer{}
)

// connectTracer is the tracer of one connection of the pool. It also counts the attempt to connect.
type connectTracer struct {
	tracer

	begun *atomic.Bool // the attempt; another one is the application's, with a copy of the configuration
}

var _ pgx.ConnectTracer = connectTracer{}

// ownTracer returns the tracer of the pool without the tracers of options.
func (db *DB) ownTracer() tracer { return tracer{db.stats.Tracer(), db} }

// withOptions returns a tracer of the pool. The tracers of options come first, so that the pool uses the context that the DB's
// own tracer returns for an acquire.
func (db *DB) withOptions(own pgx.QueryTracer) pgx.QueryTracer {
	if len(db.options.tracers) == 0 {
		return own
	}
	return multitracer.New(append(append([]pgx.QueryTracer(nil), db.options.tracers...), own)...)
}

// TraceAcquireStart returns the context that the pool uses for the acquire.
func (t tracer) TraceAcquireStart(ctx context.Context, pool *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	if pool != t.db.pool {
		return ctx
	}
	err := t.db.gate.pass(ctx, t.db, t.db.acquireTimeout)
	if err == nil {
		err = t.db.guardAcquire(ctx)
	}
	if err == nil {
		err = t.db.waitLimit.begin(t.db)
	}
	if err != nil {
		return newRefusedCtx(ctx, err)
	}
	t.db.stats.BeginAcquire()
	return t.db.newAcquireCtx(ctx)
}

// TraceAcquireEnd counts the acquire and begins the lease.
func (t tracer) TraceAcquireEnd(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	if pool != t.db.pool {
		return
	}
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		t.db.stats.RefuseAcquire()
		return
	}
	acquire.end()
	acquire.endWait()
	if data.Err != nil {
		waited := t.db.stats.Now() - acquire.began
		t.db.stats.FailAcquire(waited, errors.Is(data.Err, ErrAcquireTimeout))
		t.db.acquireEnded(acquire.caller, AcquireEvent{waited, data.Err})
		t.db.reportFailure(data.Err)
		return
	}
	t.db.stats.EndAcquire(acquire.conn, acquire.found, acquire.waited)
	t.db.acquireEnded(acquire.caller, AcquireEvent{Waited: acquire.waited})
}

// TraceRelease ends the lease, and closes the connection if it is one of the overflow.
func (t tracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if pool != t.db.pool {
		return
	}
	state, now := stateOf(data.Conn), t.db.stats.Now()
	if state == nil {
		t.db.stats.Release(nil, now)
		return
	}
	state.idleSince = now
	t.db.released(t.db.stats.Release(state.stats, now))
	t.db.closeOverflow(data.Conn, state)
}

// terminateTimeout bounds sending the message that ends a session. Sending blocks only if the socket's buffer is full.
const terminateTimeout = 100 * time.Millisecond

// closeOverflow closes a connection that is being released if as many connections are idle as the pool keeps. pgxpool then
// drops it. pgxpool's own hook, AfterRelease, would start a goroutine for each release.
//
// Connections that are released at the same moment do not count each other as idle, so more may stay than the pool keeps. Each later
// release closes one of them.
func (db *DB) closeOverflow(conn *pgx.Conn, state *connState) {
	if db.config.Pool.MaxOverflow == 0 {
		return
	}
	if stat := db.pool.Stat(); int(stat.IdleConns()) < int(stat.MaxConns())-db.config.Pool.MaxOverflow {
		return
	}
	if !isGivenUp(conn) {
		state.backend = Backend{} // no orphan
	}
	ctx, cancel := context.WithTimeout(context.Background(), terminateTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is given up: its error does not matter
}

// connectStartKey is the context key of the connectStart of an attempt to connect.
type connectStartKey struct{}

type connectStart struct {
	began time.Time
	login login
}

// TraceConnectStart notes the time and the credentials.
func (t connectTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	if !t.begun.CompareAndSwap(false, true) {
		return ctx
	}
	return context.WithValue(withAttempt(ctx), connectStartKey{}, connectStart{time.Now(), loginOf(data.ConnConfig)})
}

// TraceConnectEnd counts an attempt to connect. If it has not failed, afterConnect ends it.
func (t connectTracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	start, ok := ctx.Value(connectStartKey{}).(connectStart)
	if !ok {
		return
	}
	took := time.Since(start.began)
	t.db.connectEnded(ctx, ConnectEvent{took, data.Err})
	t.db.logins.note(start.login, t.db.noteConnect(data.Err))
	if data.Err != nil {
		t.db.pacer.end(data.Err)
		t.db.stats.ConnectFailed()
		t.db.reportFailure(data.Err)
		return
	}
	data.Conn.PgConn().CustomData()[openingKey] = took
	t.db.stats.Connected(took)
}

// statementFailed is called with the error of each failed statement. If the socket was closed because ctx has ended, as pgx does
// in a COPY, the error is reported with that of ctx. Alone it would indicate that the connection broke.
func (db *DB) statementFailed(ctx context.Context, conn *pgx.Conn, err error) {
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, net.ErrClosed) && !errors.Is(err, ctxErr) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	if sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		if state := stateOf(conn); state != nil {
			state.writeRefused = true
		}
	}
	if conn != nil && conn.IsClosed() && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) { // neither the ctx nor the monitor closed it
		db.pacer.lost()
	}
	db.reportFailure(err)
}
