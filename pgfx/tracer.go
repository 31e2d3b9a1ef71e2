package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// tracer is the DB's own pgx tracer, so it takes effect for users of the raw pool too. The embedded tracer counts statements.
// This one applies the gate, the guards and the timeout to acquires, and counts acquires, releases and connects.
type tracer struct {
	poolstats.Tracer

	db *DB
}

var (
	_ pgxpool.AcquireTracer = tracer{}
	_ pgxpool.ReleaseTracer = tracer{}
	_ pgx.ConnectTracer     = tracer{}
)

// poolTracer returns the tracer of the pool. The tracers of options come first, so that the pool uses the context that the
// DB's own tracer returns for an acquire.
func (db *DB) poolTracer() pgx.QueryTracer {
	own := tracer{db.stats.Tracer(), db}
	if len(db.options.tracers) == 0 {
		return own
	}
	return multitracer.New(append(append([]pgx.QueryTracer(nil), db.options.tracers...), own)...)
}

// TraceAcquireStart returns the context that the pool uses for the acquire.
func (t tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	err := t.db.gate.check(ctx, t.db)
	if err == nil {
		err = t.db.guardAcquire(ctx)
	}
	if err != nil {
		return newRefusedCtx(ctx, err)
	}
	t.db.stats.BeginAcquire()
	return t.db.newAcquireCtx(ctx)
}

// TraceAcquireEnd counts the acquire and begins the lease.
func (t tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		t.db.stats.RefuseAcquire()
		return
	}
	acquire.end()
	if data.Err != nil {
		t.db.stats.FailAcquire(t.db.stats.Now() - acquire.began)
		t.db.reportFailure(data.Err)
		return
	}
	t.db.stats.EndAcquire(acquire.conn, acquire.found, acquire.waited)
}

// TraceRelease ends the lease, and closes the connection if it is one of the overflow.
func (t tracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	state, now := stateOf(data.Conn), t.db.stats.Now()
	if state == nil {
		t.db.stats.Release(nil, now)
		return
	}
	state.idleSince = now
	t.db.stats.Release(state.stats, now)
	t.db.overflow.trim(data.Conn, state)
}

// connectBegan is the context key of the time at which an attempt to connect began.
type connectBegan struct{}

// TraceConnectStart notes the time.
func (t tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, connectBegan{}, time.Now())
}

// TraceConnectEnd counts an attempt to connect.
func (t tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	t.db.pacer.end(data.Err)
	if data.Err != nil {
		t.db.stats.ConnectFailed()
		t.db.reportFailure(data.Err)
		return
	}
	if began, ok := ctx.Value(connectBegan{}).(time.Time); ok {
		t.db.stats.Connected(time.Since(began))
	}
}

// statementFailed is called with the error of each failed statement.
func (db *DB) statementFailed(conn *pgx.Conn, err error) {
	if sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		if state := stateOf(conn); state != nil {
			state.writeRefused = true
		}
	}
	db.reportFailure(err)
}
