package pgfx

import (
	"net"
	"time"
)

// Stalled is a statement of the pool that waits for its answer while all others wait too.
type Stalled struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32
	// For is how long the statement has been running.
	For time.Duration
	// Silent tells that nothing at all has arrived on the connection since the statement began, so that its caller isn't
	// reading rows slowly. It is false where the system can't tell: other systems than Linux, and sockets that aren't TCP.
	Silent bool

	state   *connState
	started time.Duration
}

// Stalled returns the statements that have been running for at least atLeast while the whole pool was silent: nil when any
// statement has succeeded within that time. A slow statement looks the same as a network that swallows everything; it is for
// the caller to tell them apart. Without stalled statements it allocates nothing; without statistics it knows of none.
func (db *DB) Stalled(atLeast time.Duration) []Stalled {
	var stalled []Stalled
	db.leases.mu.Lock()
	defer db.leases.mu.Unlock()
	now := db.now()
	for state := range db.leases.conns {
		state.mu.Lock()
		answered := time.Duration(state.runs.answered.Load())
		started, running := state.runs.pending()
		state.mu.Unlock()
		if answered > 0 && now-answered < atLeast {
			return nil
		}
		if running && now-started >= atLeast {
			pg := state.conn.PgConn()
			stalled = append(stalled, Stalled{
				PID: pg.PID(), For: now - started, Silent: sinceReceived(pg.Conn()) >= now-started, state: state, started: started,
			})
		}
	}
	return stalled
}

// Abandon closes the sockets under statements that [DB.Stalled] has returned and that still run, and returns how many there
// were. Their callers get an error at once instead of at their deadline, and the pool gets its place back. It is for
// connections that are known to be dead: a server that is still at work on such a statement isn't told to stop. What the
// network still holds of it is withdrawn as far as the system can, but it may yet arrive: as with a deadline, the outcome of a
// write is unknown.
func (db *DB) Abandon(statements []Stalled) int {
	n := 0
	for _, s := range statements {
		s.state.mu.Lock()
		if began, running := s.state.runs.pending(); running && began == s.started {
			sever(s.state.conn.PgConn().Conn())
			n++
		}
		s.state.mu.Unlock()
	}
	return n
}

// sever closes the socket under a connection, at once, and drops what hasn't been sent (socket(7), SO_LINGER). Closing a TLS
// connection would wait for the other side to take its goodbye.
func sever(conn net.Conn) {
	conn = bare(conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection is given up: nobody can act on an error
	}
	_ = conn.Close() // as above
}

// bare returns the connection under TLS and the like.
func bare(conn net.Conn) net.Conn {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = inner.NetConn()
	}
}
