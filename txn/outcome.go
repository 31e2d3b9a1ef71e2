package txn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// Resolution says how the manager finds out what became of a COMMIT whose answer was lost.
type CommitResolution uint8

const (
	// ByWitness asks the server for the status of the transaction, and believes "committed" only if a witness shows that the
	// server hasn't crashed meanwhile: after a crash or a promotion, PostgreSQL gives an ID whose commit was not yet safe on
	// disk to somebody else. The witness is a connection of the manager's own, outside of the pool, that was open before
	// BEGIN and is still served by the same process. Without one the outcome stays unknown, as it does behind a transaction
	// pooler. It is the default.
	//
	// What the old primary of a failover has committed and the new one lacks is lost all the same, whether its answer arrived or
	// the witness gave it.
	//
	// The transaction's ID travels in BEGIN's round trip. A transaction around three trivial statements takes about a fifth
	// longer for it with the server on the same host. Having one costs the server a commit record for a transaction that
	// writes nothing: declare those [ReadOnly], which need no resolution and pay nothing. At isolation levels above read
	// committed the snapshot is taken at the beginning, before a LOCK TABLE for example.
	ByWitness CommitResolution = iota + 1
	// ByMarker writes a row with every transaction and looks for it afterwards, which also tells across crashes and failovers.
	// It costs an insert for each transaction. The table, rdsfx_txn_markers in the first schema of the search path, is
	// made on first use and swept of rows older than a day.
	ByMarker
	// Unresolved leaves the outcome unknown and costs nothing.
	Unresolved
)

// Outcome says how to find out what became of the transaction when the answer to COMMIT is lost. When it has been committed
// Do returns nil; when it has been rolled back, an error that isn't [ErrOutcomeUnknown]. Default: [ByWitness].
func ResolveCommit(by CommitResolution) Option {
	return Option{func(s *settings) error {
		if by < ByWitness || by > Unresolved {
			return fmt.Errorf("txn: Outcome(%d): use one of ByWitness, ByMarker, Unresolved", by)
		}
		s.outcome = by
		return nil
	}}
}

// WithOutcomeTimeout sets how long a commit in doubt may be looked after before it is reported as unknown. The wait doesn't
// depend on the caller's ctx, since an answer is worth more than being in time. Default: 5 s; with [ByMarker] set it to
// what a failover takes.
func WithOutcomeTimeout(d time.Duration) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if d <= 0 {
			return fmt.Errorf("txn: WithOutcomeTimeout(%v): use a positive duration", d)
		}
		m.resolver.timeout = d
		return nil
	}}
}

const (
	defaultOutcomeTimeout = 5 * time.Second
	// inProgressGrace is how long a commit may go on by itself before its session, to which nobody listens any more, is ended.
	inProgressGrace = 100 * time.Millisecond
	// lookAgain is the wait between two looks.
	lookAgain = 10 * time.Millisecond
)

// tracked reports whether the outcome is to be resolved.
func (s *settings) tracked() bool { return s.outcome != Unresolved && s.access != pgx.ReadOnly }

// doubt is what is known about a transaction before its COMMIT is sent.
type doubt struct {
	xid     uint64 // 0 on a standby, where nothing can be committed
	pid     uint32
	witness *witness
	marker  [16]byte // a UUID, zero without one
}

func (d *doubt) marked() bool { return d.marker != [16]byte{} }

// opening is the batch that begins a tracked transaction, and what is learnt from it, in one allocation.
type opening struct {
	doubt   doubt
	server  time.Time
	batch   pgx.Batch
	queries [2]pgx.QueuedQuery // those that are always there
	queued  [2]*pgx.QueuedQuery
	learnt  [2 + maxLocals]any // with nil for what set_config returns
	args    [maxLocals]any
}

const (
	// serverIdentity tells servers apart: when they were started.
	serverIdentity = `pg_postmaster_start_time()`
	transactionID  = `select case when pg_is_in_recovery() then '0'::xid8 else pg_current_xact_id() end, ` + serverIdentity
)

// beginTracked sends BEGIN and what is needed to resolve the outcome in one round trip.
func (t *transaction) beginTracked(ctx context.Context) error {
	r, conn := &t.m.resolver, t.conn.Conn()
	o := &opening{doubt: doubt{pid: conn.PgConn().PID()}}
	d := &o.doubt
	if t.m.pooled() { // the process ID is the pooler's invention
		d.pid = 0
	}
	if t.terms.outcome == ByMarker {
		err := r.makeTable(ctx, conn)
		if err != nil {
			return err
		}
		if d.marker, err = newMarker(); err != nil {
			return err
		}
	} else {
		d.witness = r.present(ctx)
	}
	o.learnt[0], o.learnt[1] = &o.doubt.xid, &o.server
	o.queries[0].SQL, o.queries[1].SQL = t.terms.begin, transactionID
	o.queued = [...]*pgx.QueuedQuery{&o.queries[0], &o.queries[1]}
	o.batch.QueuedQueries = o.queued[:]
	if set := t.terms.locals(ctx); len(set) > 0 {
		o.configure(set)
	}
	if d.marked() {
		o.batch.Queue("insert into "+markerTable+" (id) values ($1)", d.marker)
	}
	same, err := o.send(ctx, conn)
	if err != nil {
		if sqlstate.Code(err) == sqlstate.UndefinedTable {
			r.tableMade.Store(false) // somebody has dropped it
		}
		return err
	}
	if d.witness != nil && !same { // the address leads elsewhere now
		r.dismiss(d.witness)
		d.witness = nil
	}
	t.doubt = d
	return nil
}

// configure has the server's settings set by the query that asks for the transaction's ID.
func (o *opening) configure(set []local) {
	var text strings.Builder
	text.Grow(len(transactionID) + len(set)*len(", set_config('idle_in_transaction_session_timeout', $1, true)"))
	text.WriteString(transactionID)
	for i, l := range set {
		text.WriteString(", set_config('")
		text.WriteString(l.name)
		text.WriteString("', $")
		text.WriteByte(byte('1' + i)) // there are fewer than ten
		text.WriteString(", true)")
		o.args[i] = l.value
	}
	o.queries[1].SQL, o.queries[1].Arguments = text.String(), o.args[:len(set)]
}

// send sends the batch and reads what it tells. It returns whether the server is that of the witness.
func (o *opening) send(ctx context.Context, conn *pgx.Conn) (same bool, err error) {
	results := conn.SendBatch(ctx, &o.batch)
	_, _ = results.Exec()                         // Close tells what has gone wrong, here and below
	if rows, err := results.Query(); err == nil { //nolint:rowserrcheck // as above
		if rows.Next() {
			_ = rows.Scan(o.learnt[:len(o.learnt)-maxLocals+len(o.queries[1].Arguments)]...) // an ID of 0 is never believed
		}
		rows.Close()
	}
	return o.doubt.witness != nil && o.server.Equal(o.doubt.witness.server), results.Close() //nolint:wrapcheck // begin wraps it
}

// settle finds out what became of a COMMIT whose answer was lost. lost is what happened to the connection.
func (t *transaction) settle(lost error) error {
	d, c := t.doubt, &t.m.counters
	if d == nil {
		return &OutcomeUnknownError{Why: errNotAsked, err: lost}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.root.Context), t.m.resolver.timeout)
	defer cancel()
	verdict, why := t.m.resolver.resolve(ctx, d)
	log := t.m.logger.With(zap.Uint64("xid", d.xid), zap.Duration("took", time.Since(began)), zap.Error(lost))
	switch verdict {
	case committed:
		c.inDoubtCommitted.Add(1)
		log.Info("the answer to a commit was lost; it has been committed")
		return nil
	case aborted:
		c.inDoubtAborted.Add(1)
		log.Info("the answer to a commit was lost; it has been rolled back")
		t.broken = true
		t.repeatable(lost)
		return fmt.Errorf("txn: commit: the connection was lost, and the server has rolled back: %w", lost)
	case undecided:
	}
	log.Warn("the answer to a commit was lost; its outcome is unknown", zap.NamedError("why", why))
	return &OutcomeUnknownError{XID: d.xid, Why: why, err: lost}
}

// verdict is what became of a transaction.
type verdict uint8

const (
	undecided verdict = iota
	committed
	aborted
)

var (
	errNotAsked   = errors.New("resolution is switched off")
	errPooled     = errors.New("behind a transaction pooler no session can be a witness: use txn.ByMarker, or connect directly")
	errNoWitness  = errors.New("there is no witness from before the transaction, so that a crash of the server can't be excluded")
	errInProgress = errors.New("the server is still committing")
)

// resolver finds out what became of commits. It is part of a manager.
type resolver struct {
	m       *Manager
	timeout time.Duration

	current atomic.Pointer[witness]
	looking atomic.Bool  // a connection is being opened or checked
	pause   atomic.Int64 // the last wait, in nanoseconds
	nextTry atomic.Int64 // before this time, in Unix nanoseconds, no connection is opened

	tableMade atomic.Bool
	swept     atomic.Int64 // when it was done last, in Unix nanoseconds

	mu         sync.Mutex // orders starting background work and closing
	closed     bool
	background sync.WaitGroup
	lifetime   context.Context //nolint:containedctx // ends background work
	end        context.CancelFunc
}

func (r *resolver) init(m *Manager) {
	r.m, r.timeout = m, defaultOutcomeTimeout
	r.lifetime, r.end = context.WithCancel(context.Background())
}

// inBackground calls fn on a goroutine that close waits for.
func (r *resolver) inBackground(fn func(ctx context.Context)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.background.Go(func() { fn(r.lifetime) })
	}
}

func (r *resolver) close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.background.Wait()
		if w := r.current.Swap(nil); w != nil {
			w.close(ctx)
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("txn: close: %w", context.Cause(ctx))
	}
}

// resolve returns the verdict, or why there is none.
func (r *resolver) resolve(ctx context.Context, d *doubt) (verdict, error) {
	if d.marked() {
		return r.byMarker(ctx, d)
	}
	if d.witness == nil && r.m.pooled() {
		return undecided, errPooled
	}
	if d.witness == nil {
		return undecided, errNoWitness
	}
	grace := time.Now().Add(inProgressGrace)
	for {
		status, err := d.witness.status(ctx, d)
		if err != nil {
			r.dismiss(d.witness)
			return undecided, err
		}
		switch status {
		case "committed":
			return committed, nil
		case "aborted":
			return aborted, nil
		case "in progress":
		default:
			return undecided, fmt.Errorf("the server doesn't remember the transaction (%q)", status)
		}
		if time.Now().After(grace) {
			if err := d.witness.endSession(ctx, d); err != nil {
				return undecided, err
			}
		}
		if !sleep(ctx, lookAgain) {
			return undecided, errInProgress
		}
	}
}

// endSession ends the session of a transaction to which nobody listens any more, so that it is decided and its locks are
// gone. One that waits for a synchronous standby is left alone: ending that would commit without it.
const endSession = `select pg_terminate_backend(pid) from pg_stat_activity
	where ($1 = 0 or pid = $1) and backend_xid::text = $2 and wait_event is distinct from 'SyncRep'`

// shortXID returns the transaction ID without its epoch, as pg_stat_activity has it.
func (d *doubt) shortXID() string { return strconv.FormatUint(d.xid&math.MaxUint32, 10) }
