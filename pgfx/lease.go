package pgfx

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/caller"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// Lease is one connection in somebody's hands.
type Lease struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity; behind a pooler its invention.
	PID uint32
	// Since is when the connection was acquired.
	Since time.Time
	// Statement is the normalised text, as in [Statement], of the last statement that ran on the connection in this lease; ""
	// when none has. It holds no value: some statements, such as ALTER ROLE, take no arguments, and have a password in their text.
	Statement string
	// Stack is where the connection was acquired, innermost frame first, without the frames of this library and pgx. It may
	// be missing where leases of one connection follow one another within 100 µs, many times over, while less than half of
	// the pool is in use: taking it would cost a good part of such a lease.
	Stack []runtime.Frame
}

// statementShown is how much of a statement a Lease prints.
const statementShown = 80

func (l Lease) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "backend %d held for %v", l.PID, time.Since(l.Since).Round(time.Millisecond))
	if len(l.Stack) > 0 {
		fmt.Fprintf(&b, " by %s (%s:%d)", l.Stack[0].Function, l.Stack[0].File, l.Stack[0].Line)
	}
	if l.Statement != "" {
		text := l.Statement
		if len(text) > statementShown {
			text = strings.ToValidUTF8(text[:statementShown], "") + "…"
		}
		b.WriteString(", last statement: " + text)
	}
	return b.String()
}

// connState is what is known about one pooled connection. pgx keeps it in the connection's custom data, so that finding
// it takes no lock that connections share.
type connState struct {
	conn *pgx.Conn
	// generation counts the resets of the pool before the connection was made.
	generation int64
	// refused belongs to whoever holds the connection: the server has refused to write on it. suspect and writer belong to
	// whoever is acquiring it: whether it is to be asked, because it was idle for long enough or was refused a write, and
	// whether it could write when it was last asked. So does back, when it was last returned, 0 before.
	refused, suspect, writer bool
	back                     time.Duration
	// types are the types that the connection knows; they belong to whoever is acquiring it, too.
	types *typeSet
	// trimmed belongs to whoever is releasing it: it was closed for being one too many.
	trimmed bool

	// since is when the connection was acquired, on the DB's clock, 0 while nobody holds it. It is what makes a lease: it is
	// set when all else is as it should be, and taken away first. Two leases don't share it.
	since    atomic.Int64
	reported atomic.Bool                // the lease was reported as too long
	limit    atomic.Pointer[LeaseLimit] // of the lease, where it isn't the usual one

	mu    sync.Mutex // for what others look at while the holder changes it
	stack stack
	runs  runs
}

// customDataKey is where a connState is found in a connection's custom data.
const customDataKey = "rdsfx"

// stateOf returns the state of a pooled connection, nil for a connection that the pool didn't make.
func stateOf(conn *pgx.Conn) *connState {
	state, _ := conn.PgConn().CustomData()[customDataKey].(*connState)
	return state
}

// leases are the states of all connections of a pool.
type leases struct {
	mu    sync.Mutex
	conns map[*connState]struct{}
}

func (l *leases) add(conn *pgx.Conn, generation int64) *connState {
	state := &connState{conn: conn, generation: generation}
	conn.PgConn().CustomData()[customDataKey] = state
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = make(map[*connState]struct{})
	}
	l.conns[state] = struct{}{}
	return state
}

func (l *leases) remove(conn *pgx.Conn) {
	if state := stateOf(conn); state != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, state)
	}
}

// states returns the states of the connections that are open. It forgets those that were hijacked and then closed, which
// the pool doesn't hear of.
func (l *leases) states() []*connState {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := make([]*connState, 0, len(l.conns))
	for state := range l.conns {
		if state.gone() {
			delete(l.conns, state)
			continue
		}
		states = append(states, state)
	}
	return states
}

// acquired notes that somebody took the connection at a time on the DB's clock. An acquire takes the lock only when there
// is a stack to note or to forget.
func (s *connState) acquired(at time.Duration, always bool) {
	if capture := always || s.stack.affordable(at); capture || s.stack.depth > 0 {
		s.mu.Lock()
		s.stack.capture(at, capture, always, callersOfAcquire)
		s.mu.Unlock()
	}
	s.since.Store(int64(max(at, 1)))
}

// released notes that the connection went back. It returns how long it was held, whether that was reported as too long, and
// the limit where it was not the usual one.
func (s *connState) released(now time.Duration) (held time.Duration, reported bool, limit *LeaseLimit) {
	s.back = now
	held = now - time.Duration(s.since.Swap(0))
	if reported = s.reported.Load(); reported {
		s.reported.Store(false)
	}
	if limit = s.limit.Load(); limit != nil {
		s.limit.Store(nil)
	}
	if !s.runs.tidy() {
		s.mu.Lock()
		s.runs.reset()
		s.mu.Unlock()
	}
	return held, reported, limit
}

// report returns the lease and marks it as reported, when it has lasted for longer than the threshold and hasn't been.
func (s *connState) report(opened time.Time, now, threshold time.Duration) (Lease, bool) {
	since := s.since.Load()
	if since == 0 || now-time.Duration(since) < threshold || !s.reported.CompareAndSwap(false, true) {
		return Lease{}, false
	}
	lease, ok := s.snapshot(opened)
	if !ok || s.since.Load() != since { // it ended meanwhile, and perhaps without having seen the mark
		s.reported.Store(false)
		return Lease{}, false
	}
	return lease, true
}

// snapshot returns the lease, or false when nobody holds the connection.
func (s *connState) snapshot(opened time.Time) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.since.Load()
	if since == 0 || s.gone() {
		return Lease{}, false
	}
	lease := Lease{
		PID: s.conn.PgConn().PID(), Since: opened.Add(time.Duration(since)), Stack: caller.Frames(s.stack.pcs[:s.stack.depth]),
	}
	if s.runs.last.lease == since {
		lease.Statement = string(sqltext.Normalize(nil, s.runs.last.text))
	}
	return lease, s.since.Load() == since
}

// entry returns the entry of what ran last on the connection.
func (s *connState) entry(table *statementTable) *statementEntry {
	last := &s.runs.last
	if last.entry == nil || last.entry.evicted.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		known := s.runs.known.find(table, last.text, last.began)
		last.text, last.entry = known.text, known.entry
		s.runs.foreign = len(known.text) > longestKnown
	}
	return last.entry
}

// gone reports whether the connection has been closed, as a hijacked one may be without the pool's knowledge.
func (s *connState) gone() bool {
	select {
	case <-s.conn.PgConn().CleanupDone():
		return true
	default:
		return false
	}
}

// Leases returns the connections of the pool that are in somebody's hands, oldest first. It is meant for diagnosis: it
// takes a lock for each connection and names every frame. With Config.Stats.Disabled there are none.
func (db *DB) Leases() []Lease {
	states := db.leases.states()
	held := make([]Lease, 0, len(states))
	for _, state := range states {
		if lease, ok := state.snapshot(db.opened); ok {
			held = append(held, lease)
		}
	}
	slices.SortFunc(held, func(a, b Lease) int { return cmp.Compare(a.Since.UnixNano(), b.Since.UnixNano()) })
	return held
}

// cut closes the sockets of all held connections. Their holders get an error from the next thing they do.
func (l *leases) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for state := range l.conns {
		if state.since.Load() > 0 {
			_ = state.conn.PgConn().Conn().Close() // the connection is given up: nobody can act on an error
		}
	}
}

// WithConn calls fn with one connection of the pool, for work that needs the same session throughout: temporary tables,
// session settings, LISTEN. Behind a transaction pooler there is no such session. It opens no transaction. The connection
// goes back when fn returns or panics; fn must not keep it. Whoever gets it next finds in its session what fn has left
// there: undo it, or use [DB.Session]. ctx bounds the acquire and is handed to fn.
func (db *DB) AcquireFunc(ctx context.Context, fn func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("pgfx: acquire: %w", err)
	}
	defer conn.Release()
	return fn(ctx, conn.Conn())
}
