package txn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
)

// CommitResolution selects how the manager resolves an in-doubt commit: one whose connection was lost after COMMIT was sent and
// before the server replied.
//
// Both ways of resolving send what they need together with BEGIN, so neither costs a round trip. [ReadOnly] transactions have
// nothing to resolve and cost nothing extra. The prices below are those of a transaction around three trivial statements with
// the server on the same host, compared with [Unresolved].
type CommitResolution uint8

const (
	// ByWitness queries the status of the transaction ID on the server. The status alone proves nothing: after a crash or a
	// failover, PostgreSQL reuses the ID of a commit that was not yet on disk. So ByWitness accepts "committed" only if a
	// witness proves that the server has not crashed in between. The witness is a connection of the manager outside the pool
	// that was open before BEGIN and is still served by the same server process. Without a witness, and behind a transaction
	// pooler, the outcome stays unknown. ByWitness is the default.
	//
	// Price: the transaction takes about 20 % longer. It gets a transaction ID and a commit record even if it writes nothing.
	// Above read committed, its snapshot is taken at BEGIN, for example before a LOCK TABLE.
	//
	// A failover can lose commits that the old primary had acknowledged. ByWitness can't protect against that either.
	ByWitness CommitResolution = iota + 1
	// ByMarker inserts a row in every transaction and queries this row afterwards, which also resolves commits across crashes
	// and failovers. The table is rdsfx_txn_markers in the first schema of the search path. The manager creates it when it is
	// first needed, and deletes rows that are older than a day.
	//
	// Price: the transaction takes about 50 % longer.
	ByMarker
	// Unresolved leaves the outcome unknown and costs nothing.
	Unresolved
)

// ResolveCommit selects how an in-doubt commit is resolved. If the transaction was committed, Do returns nil; if it was rolled
// back, Do returns an error that doesn't match [ErrOutcomeUnknown]. Default: [ByWitness].
func ResolveCommit(by CommitResolution) Option {
	return Option{func(s *settings) error {
		if by < ByWitness || by > Unresolved {
			return fmt.Errorf("txn: ResolveCommit(%d): use one of ByWitness, ByMarker, Unresolved", by)
		}
		s.resolution = by
		return nil
	}}
}

// OutcomeWithinDeadline ends the resolution of an in-doubt commit when the ctx of Do ends, or after [WithOutcomeTimeout] if that
// is earlier. If the ctx has ended during COMMIT, Do returns at once and the outcome is unknown. Use it if returning in time
// matters more than the outcome. Default: Do returns after the deadline of its ctx, at most by the time of WithOutcomeTimeout.
func OutcomeWithinDeadline() Option {
	return Option{func(s *settings) error { s.resolveInTime = true; return nil }}
}

// WithOutcomeTimeout sets how long the manager tries to resolve an in-doubt commit before Do reports that its outcome is
// unknown. The caller's ctx doesn't shorten this time unless [OutcomeWithinDeadline] is given, because knowing the outcome
// matters more than returning in time. Default: 5 s. With [ByMarker], set it to the duration of a failover.
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
	// inProgressGrace is how long the server may continue a commit before its session, whose client is gone, is terminated.
	inProgressGrace = 100 * time.Millisecond
	// resolveInterval is the wait between two attempts to resolve a commit.
	resolveInterval = 10 * time.Millisecond
)

// resolvesCommit reports whether the manager resolves a commit that is in doubt.
func (s *settings) resolvesCommit() bool {
	return s.resolution != Unresolved && s.mode.AccessMode != pgx.ReadOnly
}

// txIdentity identifies a transaction on the server, so that its commit can be resolved.
type txIdentity struct {
	xid     uint64    // 0 on a standby, where nothing can be committed
	pid     uint32    // 0 behind a transaction pooler, which invents process IDs
	server  time.Time // when the server was started
	witness *witness
	marker  [16]byte // a UUID; zero without a marker
}

func (id *txIdentity) hasMarker() bool { return id.marker != [16]byte{} }

// shortXID returns the transaction ID without its epoch, as pg_stat_activity shows it.
func (id *txIdentity) shortXID() string { return strconv.FormatUint(id.xid&math.MaxUint32, 10) }

// serverStart identifies a server by the time at which it was started.
const serverStart = `pg_postmaster_start_time()`

const selectIdentity = `select case when pg_is_in_recovery() then '0'::xid8 else pg_current_xact_id() end, ` + serverStart

// queueIdentity adds the statements to the batch with which a transaction begins. It fills in the returned identity when the
// results of the batch are read.
func (r *resolver) queueIdentity(ctx context.Context, conn *pgx.Conn, by CommitResolution, batch *pgx.Batch) (*txIdentity, error) {
	id := &txIdentity{}
	if !r.m.behindPooler() {
		id.pid = conn.PgConn().PID()
	}
	batch.Queue(selectIdentity).QueryRow(func(row pgx.Row) error { return row.Scan(&id.xid, &id.server) })
	if by == ByMarker {
		return id, r.queueMarker(ctx, conn, id, batch)
	}
	id.witness = r.currentWitness(ctx)
	return id, nil
}

// checkIdentity forgets a marker table or a witness that the results of the batch have proved wrong. err is the error of the
// results.
func (r *resolver) checkIdentity(id *txIdentity, err error) {
	switch {
	case err != nil:
		r.checkMarkerTable(err)
	case id.witness != nil && !id.server.Equal(id.witness.server): // the address now leads to another server
		r.discardWitness(id.witness)
		id.witness = nil
	}
}

// resolveCommit resolves the transaction's in-doubt commit and returns the error for Do's caller. lost is the error of the
// connection.
func (t *transaction) resolveCommit(lost error) error {
	id, c := t.identity, &t.m.counters
	if id == nil {
		return &OutcomeUnknownError{Why: errUnresolved, err: lost}
	}
	began := time.Now()
	outer := t.root.Context
	if !t.settings.resolveInTime {
		outer = context.WithoutCancel(outer)
	}
	ctx, cancel := context.WithTimeout(outer, t.m.resolver.timeout)
	defer cancel()
	result, why := t.m.resolver.resolve(ctx, id)
	log := t.m.logger.With(zap.Uint64("xid", id.xid), zap.Duration("took", time.Since(began)), zap.Error(lost),
		logctx.Field(t.root.Context))
	switch result {
	case committed:
		c.inDoubtCommitted.Add(1)
		log.Info("in-doubt commit resolved: committed")
		return nil
	case rolledBack:
		c.inDoubtAborted.Add(1)
		log.Info("in-doubt commit resolved: rolled back")
		t.connLost = true
		t.noteRetryable(lost)
		return fmt.Errorf("txn: commit: the connection was lost and the server has rolled back: %w", lost)
	case unknown:
	}
	log.Warn("outcome of commit unknown", zap.NamedError("why", why))
	return &OutcomeUnknownError{XID: id.xid, Why: why, err: lost}
}

// outcome is what a server has made of a COMMIT.
type outcome uint8

const (
	unknown outcome = iota
	committed
	rolledBack
)

var (
	errUnresolved = errors.New("resolution is disabled by txn.Unresolved")
	errNoSession  = errors.New("a transaction pooler shares sessions, so none can be a witness: use txn.ByMarker, or connect directly")
	errNoWitness  = errors.New("no witness connection was open before the transaction, so the server may have crashed since")
	errInProgress = errors.New("the server is still committing")
	errNoStatus   = errors.New("the server has no status for the transaction")
)

// resolver resolves in-doubt commits. It is part of a manager.
type resolver struct {
	m       *Manager
	timeout time.Duration

	witness        atomic.Pointer[witness]
	witnessBusy    atomic.Bool  // the witness is being opened or checked in the background
	witnessPause   atomic.Int64 // the latest wait before a retry, in nanoseconds
	witnessRetryAt atomic.Int64 // no witness is opened before this time, in Unix nanoseconds

	markerTableExists atomic.Bool
	sweptAt           atomic.Int64 // when old markers were last deleted, in Unix nanoseconds

	mu         sync.Mutex // orders the start of background work and close
	closed     bool
	background sync.WaitGroup
	lifetime   context.Context //nolint:containedctx // ends background work
	end        context.CancelFunc
}

func (r *resolver) init(m *Manager) {
	r.m, r.timeout = m, defaultOutcomeTimeout
	r.lifetime, r.end = context.WithCancel(context.Background())
}

// inBackground calls fn in a goroutine that close waits for. After close it does nothing.
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
		if w := r.witness.Swap(nil); w != nil {
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

// resolve returns the outcome, or why it is unknown.
func (r *resolver) resolve(ctx context.Context, id *txIdentity) (outcome, error) {
	if ctx.Err() != nil { // a query would fail without having been sent, and the witness would be discarded
		return unknown, context.Cause(ctx)
	}
	if id.hasMarker() {
		return r.resolveByMarker(ctx, id)
	}
	if id.witness == nil && r.m.behindPooler() {
		return unknown, errNoSession
	}
	if id.witness == nil {
		return unknown, errNoWitness
	}
	return r.resolveByWitness(ctx, id)
}

// repeat calls query with a new connection until the outcome is known, ctx ends, or the witness is found to have ended. The new
// connection may lose its peer as the transaction's did, so the time of each attempt is limited.
func (r *resolver) repeat(ctx context.Context, query func(ctx context.Context, conn *pgx.Conn) (outcome, error)) (outcome, error) {
	for {
		result, err := r.attempt(ctx, query)
		if result != unknown || errors.Is(err, errWitnessEnded) {
			return result, err
		}
		if !sleep(ctx, resolveInterval) {
			return unknown, err
		}
	}
}

func (r *resolver) attempt(ctx context.Context, query func(ctx context.Context, conn *pgx.Conn) (outcome, error)) (outcome, error) {
	connectCtx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	conn, err := r.m.db.Connect(connectCtx, "outcome")
	if err != nil {
		return unknown, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the socket is closed in any case
	queryCtx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	return query(queryCtx, conn)
}

// terminate terminates the session of a transaction that is still in progress.
func (id *txIdentity) terminate(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, terminateSession, id.pid, id.shortXID()); err != nil {
		return fmt.Errorf("terminate the session that is still committing: %w", err)
	}
	return nil
}

// terminateSession terminates the session of a transaction whose client is gone, so that the transaction ends and its locks
// become free. A session that waits for a synchronous standby is left alone: terminating it would commit without the standby.
const terminateSession = `select pg_terminate_backend(pid) from pg_stat_activity
	where ($1 = 0 or pid = $1) and backend_xid::text = $2 and wait_event is distinct from 'SyncRep'`
