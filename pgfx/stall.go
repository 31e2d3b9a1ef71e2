package pgfx

import (
	"net"
	"time"
)

// StalledStatement is a statement that waits for the server's answer while no statement of the pool makes progress.
type StalledStatement struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32
	// For is how long the statement has been running.
	For time.Duration
	// Silent reports whether nothing has arrived on the connection since the statement began, which rules out a caller that
	// reads its rows slowly. It is always false on systems other than Linux and on connections that are not TCP.
	Silent bool

	state   *connState
	started time.Duration
}

func (db *DB) stalledStatements(atLeast time.Duration) []StalledStatement {
	var stalled []StalledStatement
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
			stalled = append(stalled, StalledStatement{
				PID: pg.PID(), For: now - started, Silent: sinceReceived(pg.Conn()) >= now-started, state: state, started: started,
			})
		}
	}
	return stalled
}

func abandon(statements []StalledStatement) int {
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
