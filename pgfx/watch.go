package pgfx

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// watch is the one tracer of a pool. It sees every acquire, release and statement of whoever uses the pool. What it costs
// is mostly the clock, which is read twice for a statement and once for a lease, and now and then a stack.
type watch struct {
	db   *DB
	off  bool          // Config.Stats.Disabled: failures are seen, and the number of statements and leases
	slow time.Duration // 0: no statement is
	log  bool          // each statement, at debug level
	half int64         // half of the pool's connections

	// acquires are the contexts of acquires that found a connection at once and that nobody else has seen.
	acquires sync.Pool
	shared   bool // with other people's tracers, which may keep them
}

var (
	_ pgxpool.AcquireTracer = (*watch)(nil)
	_ pgxpool.ReleaseTracer = (*watch)(nil)
	_ pgx.QueryTracer       = (*watch)(nil)
	_ pgx.BatchTracer       = (*watch)(nil)
	_ pgx.CopyFromTracer    = (*watch)(nil)
	_ pgx.PrepareTracer     = (*watch)(nil)
	_ pgx.ConnectTracer     = (*watch)(nil)
)

// callersOfAcquire skips runtime.Callers, stack.capture, connState.acquired, TraceAcquireEnd and pgxpool's deferred closure.
const callersOfAcquire = 5

func newWatch(db *DB, maxConns int32) *watch {
	cfg := db.config.Stats
	w := &watch{
		db: db, off: cfg.Disabled, slow: orElse(cfg.Slow, 0), log: cfg.Log, half: int64(maxConns+1) / 2, shared: len(db.options.tracers) > 0,
	}
	w.acquires.New = func() any { return &acquireCtx{db: db} }
	db.leaks.db = db
	db.leaks.usual = LeaseLimit{
		Logger: db.logger, Exceeds: "a connection is held for long; is it released on every path?",
		Ended: "a connection that was held for long is back",
	}
	if !cfg.Disabled {
		db.leaks.usual.After = orElse(cfg.LongLease, 0)
		db.statements.capacity = max(cfg.Statements, 0)
	}
	return w
}

func (w *watch) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	if shut := w.db.gate.shut.Load(); shut != nil {
		return &gateCtx{Context: ctx, err: shut}
	}
	if err := w.db.guardAcquire(ctx); err != nil {
		return &gateCtx{Context: ctx, err: err}
	}
	acquire, _ := w.acquires.Get().(*acquireCtx)
	acquire.Context = ctx
	return acquire
}

func (w *watch) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	counters := &w.db.counters
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		counters.refused.Add(1)
		return
	}
	waited, waiting := acquire.over()
	if waiting {
		counters.waits.Record(waited)
	}
	if data.Err != nil {
		counters.acquireErrors.Add(1)
		w.db.reportFailure(data.Err)
		return
	}
	inUse := counters.acquired.Add(1) - counters.returned.Load()
	if state := acquire.state; state != nil && !w.off {
		state.acquired(acquire.at, inUse >= w.half || w.db.wantsStacks.Load())
		if leaks := &w.db.leaks; leaks.usual.After > 0 && leaks.due.Load() == 0 {
			leaks.watch(acquire.at + leaks.usual.After)
		}
	}
	if acquire.asked && !waiting && !w.shared {
		acquire.Context, acquire.asked, acquire.state = nil, false, nil
		w.acquires.Put(acquire)
	}
}

func (w *watch) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	counters := &w.db.counters
	if state := stateOf(data.Conn); state != nil {
		if !w.off {
			held, reported, limit := state.released(w.db.now())
			counters.uses.Record(held)
			if reported {
				w.db.leaks.returned(limit, data.Conn.PgConn().PID(), held)
			}
		}
		w.db.overflow.trim(data.Conn, state)
	}
	counters.returned.Add(1)
}

func (w *watch) begin(conn *pgx.Conn, text string, batch int) {
	if w.off {
		return
	}
	if state := stateOf(conn); state != nil {
		state.mu.Lock()
		defer state.mu.Unlock()
		state.runs.begin(text, batch, state.since.Load(), w.db.now())
	}
}

func (w *watch) end(conn *pgx.Conn, rows int64, err error) {
	state := stateOf(conn)
	if state == nil { // the connection is being made: what its hooks do is not the pool's traffic
		return
	}
	if err != nil && sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		state.refused = true
	}
	if w.off {
		w.db.counters.untimed.Add(1)
		w.failed(err)
		return
	}
	took, how := state.runs.end(w.db.now(), err == nil)
	switch how {
	case endedBefore:
		return
	case endedRefused:
		w.db.counters.untimed.Add(1)
	case endedNow:
		w.db.counters.statements.Record(took)
		ended := &state.runs.last
		if w.db.statements.capacity > 0 && ended.batch == 0 {
			state.entry(&w.db.statements).record(took, rows, err)
		}
		if w.log {
			w.logStatement(ended, took, conn.PgConn().PID(), rows, err)
		}
		if w.slow > 0 && took >= w.slow {
			w.sawSlow(ended, took, conn.PgConn().PID(), rows, err)
		}
	}
	w.failed(err)
}

func (w *watch) failed(err error) {
	if err != nil {
		w.db.counters.failed(err)
		w.db.reportFailure(err)
	}
}

func (w *watch) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.begin(conn, data.SQL, 0)
	return ctx
}

func (w *watch) TraceQueryEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	w.end(conn, data.CommandTag.RowsAffected(), data.Err)
}

func (w *watch) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if queued := data.Batch.QueuedQueries; len(queued) > 0 {
		w.begin(conn, queued[0].SQL, len(queued))
	}
	return ctx
}

func (w *watch) TraceBatchQuery(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	if w.db.statements.capacity == 0 {
		return
	}
	if state := stateOf(conn); state != nil {
		now := w.db.now()
		state.mu.Lock()
		known := state.runs.known.find(&w.db.statements, data.SQL, now)
		state.mu.Unlock()
		known.entry.record(now-data.ReadStartTime.Sub(w.db.opened), data.CommandTag.RowsAffected(), data.Err)
	}
}

func (w *watch) TraceBatchEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	w.end(conn, 0, data.Err)
}

func (w *watch) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	if !w.off {
		w.begin(conn, "copy "+data.TableName.Sanitize()+" from stdin", 0)
	}
	return ctx
}

func (w *watch) TraceCopyFromEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	w.end(conn, data.CommandTag.RowsAffected(), data.Err)
}

// TracePrepareStart sees what a statement needs before it can run for the first time on a connection, and what the
// application prepares by itself.
func (w *watch) TracePrepareStart(ctx context.Context, conn *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	if w.off {
		return ctx
	}
	if state := stateOf(conn); state != nil {
		state.runs.prepared = w.db.now()
	}
	return ctx
}

func (w *watch) TracePrepareEnd(_ context.Context, conn *pgx.Conn, data pgx.TracePrepareEndData) {
	state := stateOf(conn)
	if w.off || state == nil || data.AlreadyPrepared {
		return
	}
	w.db.counters.prepares.Record(w.db.now() - state.runs.prepared)
	if !state.runs.running { // else it is the statement that fails
		w.failed(data.Err)
	}
}

// connectBegan is the key of the time at which connecting began.
type connectBegan struct{}

func (w *watch) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, connectBegan{}, w.db.now())
}

func (w *watch) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	w.db.pacer.end(data.Err)
	if data.Err != nil {
		w.db.counters.connectFailures.Add(1)
		w.db.reportFailure(data.Err)
		return
	}
	if began, ok := ctx.Value(connectBegan{}).(time.Duration); ok {
		w.db.counters.connects.Record(w.db.now() - began)
	}
}
