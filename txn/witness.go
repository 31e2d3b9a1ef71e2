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
	// witnessChecked is how long a check of the witness counts.
	witnessChecked = 10 * time.Second
	// witnessPause is the shortest wait before another attempt to open one. It doubles with every failure.
	witnessPause    = 100 * time.Millisecond
	witnessMaxPause = 5 * time.Second
	// witnessTimeout bounds opening and checking one.
	witnessTimeout = 2 * time.Second
)

// witness is a connection whose session shows that the server hasn't crashed since it was opened: a crash ends every
// session. That it is still the same session is checked by its process and start, and not taken from the connection, behind
// which a pooler may change sessions.
type witness struct {
	pid    int32
	since  time.Time // when its session began
	server time.Time // the serverIdentity of its server

	checked atomic.Int64 // Unix nanoseconds

	mu   sync.Mutex
	conn *pgx.Conn
}

// identity tells which session answers, and on which server.
const identity = `pg_backend_pid(), ` + serverIdentity + `, (select backend_start from pg_stat_activity where pid = pg_backend_pid())`

// pooled reports whether sessions are somebody else's after each transaction.
func (m *Manager) pooled() bool { return m.db.Config().Pooler == pgfx.PoolerTransaction }

// present returns the witness that there is before a transaction begins, nil when there is none. The manager's first
// transaction waits for it; later ones don't: when it has to be opened again or checked, that happens meanwhile.
func (r *resolver) present(ctx context.Context) *witness {
	if r.m.pooled() {
		return nil
	}
	w, now := r.current.Load(), time.Now()
	switch {
	case w == nil && r.nextTry.CompareAndSwap(0, math.MaxInt64):
		ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		r.open(ctx)
		return r.current.Load()
	case w == nil && now.UnixNano() > r.nextTry.Load():
		r.look(r.open)
	case w != nil && now.Sub(time.Unix(0, w.checked.Load())) > witnessChecked:
		r.look(func(ctx context.Context) { r.check(ctx, w) })
	}
	return w
}

// look runs fn in the background, unless something of the kind runs already.
func (r *resolver) look(fn func(ctx context.Context)) {
	if !r.looking.CompareAndSwap(false, true) {
		return
	}
	r.inBackground(func(ctx context.Context) {
		defer r.looking.Store(false)
		ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		fn(ctx)
	})
}

// open opens a witness.
func (r *resolver) open(ctx context.Context) {
	w, err := r.m.newWitness(ctx)
	if err != nil {
		pause := min(max(2*time.Duration(r.pause.Load()), witnessPause), witnessMaxPause)
		r.pause.Store(int64(pause))
		r.nextTry.Store(time.Now().Add(pause).UnixNano())
		r.m.logger.Warn("no witness for commits in doubt; trying again", zap.Duration("pause", pause), zap.Error(err))
		return
	}
	r.pause.Store(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.current.CompareAndSwap(nil, w) {
		w.close(ctx)
	}
}

func (m *Manager) newWitness(ctx context.Context) (*witness, error) {
	conn, err := m.db.Connect(ctx, "witness")
	if err != nil {
		return nil, err
	}
	w := &witness{conn: conn}
	if err := conn.QueryRow(ctx, "select "+identity).Scan(&w.pid, &w.server, &w.since); err != nil {
		w.close(ctx)
		return nil, fmt.Errorf("ask the witness who it is: %w", err)
	}
	w.checked.Store(time.Now().UnixNano())
	return w, nil
}

// check makes sure that the witness still answers, and opens another one if not.
func (r *resolver) check(ctx context.Context, w *witness) {
	if _, err := w.status(ctx, nil); err != nil {
		r.dismiss(w)
		r.open(ctx)
		return
	}
	w.checked.Store(time.Now().UnixNano())
}

// dismiss drops a witness that is none any more.
func (r *resolver) dismiss(w *witness) {
	if r.current.CompareAndSwap(w, nil) {
		r.nextTry.Store(1) // at once
		r.inBackground(w.close)
	}
}

func (w *witness) close(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.Close(ctx) // nothing depends on a clean end of it
}

var errOtherSession = errors.New("the witness is served by another session than before")

// status returns what the server says of a transaction: "committed", "aborted", "in progress", or "" when it doesn't
// remember. An error says that the witness is none. d may be nil: then nothing is asked.
func (w *witness) status(ctx context.Context, d *doubt) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var (
		pid         int32
		server      time.Time
		since       time.Time
		xid, status *string
	)
	if d != nil {
		text := strconv.FormatUint(d.xid, 10)
		xid = &text
	}
	err := w.conn.QueryRow(ctx, "select "+identity+", pg_xact_status($1::text::xid8)", xid).Scan(&pid, &server, &since, &status)
	if err != nil {
		return "", fmt.Errorf("the witness doesn't answer: %w", err)
	}
	if pid != w.pid || !server.Equal(w.server) || !since.Equal(w.since) {
		return "", errOtherSession
	}
	if status == nil {
		return "", nil
	}
	return *status, nil
}

// endSession ends the session of a transaction that is still in progress.
func (w *witness) endSession(ctx context.Context, d *doubt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.conn.Exec(ctx, endSession, d.pid, d.shortXID()); err != nil {
		return fmt.Errorf("the session that still commits can't be ended: %w", err)
	}
	return nil
}
