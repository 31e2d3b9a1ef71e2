package poolstats

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tracer is a pgx tracer that reports what the connections of a pool execute to its collector. It ignores connections that
// were not added: the hooks of a connection that is being opened are not traffic of the pool.
type Tracer struct{ c *Collector }

var (
	_ pgx.QueryTracer    = Tracer{}
	_ pgx.BatchTracer    = Tracer{}
	_ pgx.CopyFromTracer = Tracer{}
	_ pgx.PrepareTracer  = Tracer{}
)

// Tracer returns the tracer of the collector.
func (c *Collector) Tracer() Tracer { return Tracer{c} }

func (t Tracer) begin(conn *pgx.Conn, text string, batch []*pgx.QueuedQuery) {
	if t.c.cfg.Disabled {
		return
	}
	if state := ConnOf(conn); state != nil {
		state.beginStatement(text, batch, t.c.clock.now())
	}
}

func (t Tracer) end(ctx context.Context, conn *pgx.Conn, tag pgconn.CommandTag, err error) {
	state := ConnOf(conn)
	if state == nil {
		return
	}
	if t.c.cfg.Disabled {
		t.c.counters.untimed.Add(1)
	} else {
		e, ending := state.endStatement(&t.c.statements, t.c.clock.now(), tag, err)
		switch ending {
		case endedRunning:
			t.c.recordExecution(ctx, e)
		case endedRefused:
			t.c.counters.untimed.Add(1)
		case endedTwice:
			return
		}
	}
	t.c.recordError(ctx, conn, err)
}

// TraceQueryStart is called by pgx before a statement is sent.
func (t Tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.begin(conn, data.SQL, nil)
	return ctx
}

// TraceQueryEnd is called by pgx when the rows of a statement have been read.
func (t Tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	t.end(ctx, conn, data.CommandTag, data.Err)
}

// TraceBatchStart is called by pgx before a batch is sent.
func (t Tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if queued := data.Batch.QueuedQueries; len(queued) > 0 {
		t.begin(conn, queued[0].SQL, queued)
	}
	return ctx
}

// TraceBatchQuery is called by pgx when the result of a statement in a batch has been read.
func (t Tracer) TraceBatchQuery(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	if t.c.statements.capacity == 0 {
		return
	}
	if state := ConnOf(conn); state != nil {
		took := time.Since(data.ReadStartTime)
		state.mu.Lock()
		entry := state.entry(&t.c.statements, data.SQL, t.c.clock.now())
		state.mu.Unlock()
		entry.record(took, data.CommandTag.RowsAffected(), data.Err)
	}
}

// TraceBatchEnd is called by pgx when a batch is closed.
func (t Tracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, conn, pgconn.CommandTag{}, data.Err)
}

// TraceCopyFromStart is called by pgx before a COPY begins.
func (t Tracer) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	t.begin(conn, "copy "+data.TableName.Sanitize()+" from stdin", nil)
	return ctx
}

// TraceCopyFromEnd is called by pgx when a COPY has ended.
func (t Tracer) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.end(ctx, conn, data.CommandTag, data.Err)
}

// TracePrepareStart is called by pgx before it prepares a statement. Either the statement runs for the first time on the
// connection, or the application prepares it.
func (t Tracer) TracePrepareStart(ctx context.Context, conn *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	if t.c.cfg.Disabled {
		return ctx
	}
	if state := ConnOf(conn); state != nil {
		state.mu.Lock()
		defer state.mu.Unlock()
		state.prepareBegan = t.c.clock.now()
	}
	return ctx
}

// TracePrepareEnd is called by pgx when a statement has been prepared.
func (t Tracer) TracePrepareEnd(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareEndData) {
	state := ConnOf(conn)
	if t.c.cfg.Disabled || state == nil || data.AlreadyPrepared {
		return
	}
	state.mu.Lock()
	took, running := t.c.clock.now()-state.prepareBegan, state.running
	state.prepared += took
	state.mu.Unlock()
	t.c.counters.prepares.Record(took)
	if !running { // otherwise the statement that is being prepared fails with the same error
		t.c.recordError(ctx, conn, data.Err)
	}
}
