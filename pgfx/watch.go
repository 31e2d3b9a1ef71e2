package pgfx

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// watch is the one tracer of a pool. It sees every acquire, release and statement of whoever uses the pool, and allocates
// nothing but the ctx of an acquire.
type watch struct{ db *DB }

var (
	_ pgxpool.AcquireTracer = (*watch)(nil)
	_ pgxpool.ReleaseTracer = (*watch)(nil)
	_ pgx.QueryTracer       = (*watch)(nil)
	_ pgx.BatchTracer       = (*watch)(nil)
	_ pgx.CopyFromTracer    = (*watch)(nil)
	_ pgx.ConnectTracer     = (*watch)(nil)
)

// callersOfAcquire skips runtime.Callers, connState.acquired, TraceAcquireEnd and pgxpool's deferred closure.
const callersOfAcquire = 4

func (w *watch) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	if shut := w.db.gate.shut.Load(); shut != nil {
		return &gateCtx{Context: ctx, err: shut}
	}
	if err := w.db.guarded(ctx); err != nil {
		return &gateCtx{Context: ctx, err: err}
	}
	w.db.counters.waiting.Add(1)
	return &acquireCtx{Context: ctx, db: w.db}
}

func (w *watch) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		w.db.counters.refused.Add(1)
		return
	}
	w.db.counters.waiting.Add(-1)
	if waited := acquire.over(); waited > 0 {
		w.db.counters.waits.record(waited)
	}
	if data.Err != nil {
		w.db.counters.acquireErrors.Add(1)
		w.db.failed(data.Err)
		return
	}
	w.db.counters.acquired.Add(1)
	if state := stateOf(data.Conn); state != nil {
		state.acquired(w.db.now(), callersOfAcquire)
	}
}

func (w *watch) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if state := stateOf(data.Conn); state != nil {
		w.db.counters.uses.record(state.released(w.db.now()))
		w.db.overflow.trim(data.Conn, state)
	}
}

func (w *watch) begin(conn *pgx.Conn, statement string) {
	if state := stateOf(conn); state != nil {
		state.begin(statement, w.db.now())
	}
}

func (w *watch) end(conn *pgx.Conn, err error) {
	if state := stateOf(conn); state != nil {
		w.db.counters.statement(w.db.now()-state.end(), err)
		if err != nil {
			w.db.failed(err)
		}
	}
}

func (w *watch) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.begin(conn, data.SQL)
	return ctx
}

func (w *watch) TraceQueryEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	w.end(conn, data.Err)
}

func (w *watch) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	statement := "batch"
	if queued := data.Batch.QueuedQueries; len(queued) > 0 {
		statement = queued[0].SQL
	}
	w.begin(conn, statement)
	return ctx
}

func (w *watch) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (w *watch) TraceBatchEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	w.end(conn, data.Err)
}

func (w *watch) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	w.begin(conn, "copy "+data.TableName.Sanitize()+" from stdin")
	return ctx
}

func (w *watch) TraceCopyFromEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	w.end(conn, data.Err)
}

func (w *watch) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (w *watch) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	w.db.pacer.end(data.Err)
	if data.Err != nil {
		w.db.counters.connectFailures.Add(1)
		w.db.failed(data.Err)
		return
	}
	w.db.counters.connected.Add(1)
}
