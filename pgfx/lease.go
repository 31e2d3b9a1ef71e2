package pgfx

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Lease is one connection in somebody's hands.
type Lease struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32
	// Since is when the connection was acquired.
	Since time.Time
	// Statement is the text of the last statement that ran on the connection in this lease, without its arguments; "" when
	// none has.
	Statement string
	// Stack is where the connection was acquired, innermost frame first, without the frames of this package and pgx.
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
		text := strings.Join(strings.Fields(l.Statement), " ")
		if len(text) > statementShown {
			text = strings.ToValidUTF8(text[:statementShown], "") + "…"
		}
		b.WriteString(", last statement: " + text)
	}
	return b.String()
}

// stackDepth is how many frames of an acquire are kept. Capturing costs about 0.3 µs and no allocation; the frames get
// their names only when somebody looks.
const stackDepth = 24

// connState is what is known about one pooled connection. pgx keeps it in the connection's custom data, so that finding
// it takes no lock that connections share.
type connState struct {
	conn *pgx.Conn
	// generation counts the resets of the pool before the connection was made.
	generation int64
	// suspect and writer belong to whoever is acquiring the connection: whether it was idle for long enough to be asked,
	// and whether it could write when it was last asked.
	suspect, writer bool
	// types are the types that the connection knows; they belong to whoever is acquiring it, too.
	types *typeSet
	// trimmed belongs to whoever is releasing it: it was closed for being one too many.
	trimmed bool

	mu        sync.Mutex
	held      bool
	since     time.Duration // on the DB's clock
	statement string
	started   time.Duration // of the running statement
	pcs       [stackDepth]uintptr
	depth     int
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

// acquired notes who took the connection. skip is the number of frames between the caller and runtime.Callers.
func (s *connState) acquired(now time.Duration, skip int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.since, s.statement = true, now, ""
	s.depth = runtime.Callers(skip, s.pcs[:])
}

// released notes that the connection went back and returns how long it was held.
func (s *connState) released(now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	return now - s.since
}

// begin notes the start of a statement.
func (s *connState) begin(statement string, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statement, s.started = statement, now
}

// end returns when the running statement began.
func (s *connState) end() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// snapshot returns the lease, or false when nobody holds the connection.
func (s *connState) snapshot(opened time.Time) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held || s.gone() {
		return Lease{}, false
	}
	lease := Lease{PID: s.conn.PgConn().PID(), Since: opened.Add(s.since), Statement: s.statement}
	frames := runtime.CallersFrames(slices.Clone(s.pcs[:s.depth]))
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !inside(frame.Function) {
			lease.Stack = append(lease.Stack, frame)
		}
		if !more {
			return lease, true
		}
	}
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

// inside reports whether a function belongs to the machinery between the caller and the pool.
func inside(function string) bool {
	return strings.HasPrefix(function, "github.com/jackc/pgx/") || strings.HasPrefix(function, "database/sql.") ||
		strings.HasPrefix(function, "github.com/rdsfx-go/rdsfx/pgfx.") ||
		strings.HasPrefix(function, "github.com/rdsfx-go/rdsfx/txn.") ||
		strings.HasPrefix(function, "github.com/rdsfx-go/rdsfx/repo.")
}

// Leases returns the connections of the pool that are in somebody's hands, oldest first. It is meant for diagnosis: it
// takes a lock for each connection and names every frame.
func (db *DB) Leases() []Lease {
	db.leases.mu.Lock()
	states := make([]*connState, 0, len(db.leases.conns))
	for state := range db.leases.conns {
		states = append(states, state)
	}
	db.leases.mu.Unlock()
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
		state.mu.Lock()
		if state.held {
			_ = state.conn.PgConn().Conn().Close() // the connection is given up: nobody can act on an error
		}
		state.mu.Unlock()
	}
}

// WithConn calls fn with one connection of the pool, for work that needs the same session throughout: temporary tables,
// session settings, LISTEN. It opens no transaction. The connection goes back when fn returns or panics; fn must not keep
// it. ctx bounds the acquire and is handed to fn.
func (db *DB) WithConn(ctx context.Context, fn func(ctx context.Context, conn *pgx.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("pgfx: acquire: %w", err)
	}
	defer conn.Release()
	return fn(ctx, conn.Conn())
}
