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

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// witnessCheckInterval is how long a check of the witness stays valid.
	witnessCheckInterval = 10 * time.Second
	// witnessMinPause is the wait after the first failed attempt to open a witness. It doubles with each further failure.
	witnessMinPause = 100 * time.Millisecond
	witnessMaxPause = 5 * time.Second
	// witnessTimeout bounds opening and checking a witness, and each attempt to resolve a commit.
	witnessTimeout = 2 * time.Second
)

// witness is a connection whose session proves that the server has not crashed since the session began, because a crash ends
// every session. The session is identified by its process and start time, so any connection to the server can verify that it
// exists.
type witness struct {
	pid     int32
	started time.Time // when the session began
	server  time.Time // when the server was started

	checked atomic.Int64 // Unix nanoseconds

	mu   sync.Mutex
	conn *pgx.Conn
}

// sessionIdentity selects the process, the server and the start time of the current session.
const sessionIdentity = `pg_backend_pid(), ` + serverStart + `, (select backend_start from pg_stat_activity where pid = pg_backend_pid())`

// behindPooler reports whether a pooler may assign another session to each transaction.
func (m *Manager) behindPooler() bool { return m.db.Config().Pooler == pgfx.PoolerTransaction }

// currentWitness returns a witness that exists before a transaction begins, nil if there is none. Only the manager's first
// transaction waits for it to be opened. Later it is checked, and opened again, in the background.
func (r *resolver) currentWitness(ctx context.Context) *witness {
	if r.m.behindPooler() {
		return nil
	}
	w, now := r.witness.Load(), time.Now()
	switch {
	case w == nil && r.witnessRetryAt.CompareAndSwap(0, math.MaxInt64):
		ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		r.openWitness(ctx)
		return r.witness.Load()
	case w == nil && now.UnixNano() > r.witnessRetryAt.Load():
		r.maintainWitness(r.openWitness)
	case w != nil && now.Sub(time.Unix(0, w.checked.Load())) > witnessCheckInterval:
		r.maintainWitness(func(ctx context.Context) { r.checkWitness(ctx, w) })
	}
	return w
}

// maintainWitness calls fn in the background, unless an earlier call is still running.
func (r *resolver) maintainWitness(fn func(ctx context.Context)) {
	if !r.witnessBusy.CompareAndSwap(false, true) {
		return
	}
	r.inBackground(func(ctx context.Context) {
		defer r.witnessBusy.Store(false)
		ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		fn(ctx)
	})
}

func (r *resolver) openWitness(ctx context.Context) {
	w, err := r.m.newWitness(ctx)
	if err != nil {
		pause := min(max(2*time.Duration(r.witnessPause.Load()), witnessMinPause), witnessMaxPause)
		r.witnessPause.Store(int64(pause))
		r.witnessRetryAt.Store(time.Now().Add(pause).UnixNano())
		r.m.logger.Warn("cannot open witness connection, in-doubt commits stay unknown until a retry succeeds",
			zap.Duration("retry_after", pause), zap.Error(err))
		return
	}
	r.witnessPause.Store(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.witness.CompareAndSwap(nil, w) {
		w.close(ctx)
	}
}

func (m *Manager) newWitness(ctx context.Context) (*witness, error) {
	conn, err := m.db.Connect(ctx, "witness")
	if err != nil {
		return nil, err
	}
	w := &witness{conn: conn}
	if err := conn.QueryRow(ctx, "select "+sessionIdentity).Scan(&w.pid, &w.server, &w.started); err != nil {
		w.close(ctx)
		return nil, fmt.Errorf("identify the session of the witness: %w", err)
	}
	w.checked.Store(time.Now().UnixNano())
	return w, nil
}

// checkWitness verifies that the witness still has its session, and opens another one if not.
func (r *resolver) checkWitness(ctx context.Context, w *witness) {
	if err := w.check(ctx); err != nil {
		r.discardWitness(w)
		r.openWitness(ctx)
		return
	}
	w.checked.Store(time.Now().UnixNano())
}

// discardWitness closes a witness that proves nothing any more.
func (r *resolver) discardWitness(w *witness) {
	if r.witness.CompareAndSwap(w, nil) {
		r.witnessRetryAt.Store(1) // at once
		r.inBackground(w.close)
	}
}

func (w *witness) close(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.Close(ctx) // the socket is closed in any case
}

// resolveByWitness queries the status until it is final, ctx ends, or the witness is found to have ended.
func (r *resolver) resolveByWitness(ctx context.Context, id *txIdentity) (outcome, error) {
	grace := time.Now().Add(inProgressGrace)
	result, err := r.repeat(ctx, func(ctx context.Context, conn *pgx.Conn) (outcome, error) {
		return id.queryStatus(ctx, conn, grace)
	})
	if errors.Is(err, errWitnessEnded) {
		r.discardWitness(id.witness)
	}
	return result, err
}

var errWitnessEnded = errors.New("the session of the witness has ended, so the server may have crashed since")

// queryStatus queries the status of the transaction until it is final. The same statement verifies that the server still has the
// session of the witness. It does not use the connection of the witness, which may be half-open or wait for a frozen server.
func (id *txIdentity) queryStatus(ctx context.Context, conn *pgx.Conn, grace time.Time) (outcome, error) {
	const query = `select alive, case when alive then pg_xact_status($4::text::xid8) end from (select ` + serverStart + ` = $1
		and exists (select from pg_stat_activity where pid = $2 and backend_start = $3) as alive) as witness`
	w, xid := id.witness, strconv.FormatUint(id.xid, 10)
	for {
		var (
			alive  bool
			status *string
		)
		if err := conn.QueryRow(ctx, query, w.server, w.pid, w.started, xid).Scan(&alive, &status); err != nil {
			return unknown, fmt.Errorf("query the status: %w", err)
		}
		switch {
		case !alive:
			return unknown, errWitnessEnded
		case status == nil:
			return unknown, errNoStatus
		case *status == "committed":
			return committed, nil
		case *status == "aborted":
			return rolledBack, nil
		}
		if time.Now().After(grace) {
			if err := id.terminate(ctx, conn); err != nil {
				return unknown, err
			}
		}
		if !sleep(ctx, resolveInterval) {
			return unknown, errInProgress
		}
	}
}

var errOtherSession = errors.New("the witness connection has moved to another session")

// check verifies that the connection still has its session.
func (w *witness) check(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var (
		pid             int32
		server, started time.Time
	)
	if err := w.conn.QueryRow(ctx, "select "+sessionIdentity).Scan(&pid, &server, &started); err != nil {
		return fmt.Errorf("check the witness: %w", err)
	}
	if pid != w.pid || !server.Equal(w.server) || !started.Equal(w.started) {
		return errOtherSession
	}
	return nil
}
