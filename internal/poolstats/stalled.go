package poolstats

import (
	"net"
	"slices"
	"time"
)

// StalledStatement is a statement that waits while no statement of the pool succeeds. The fields are those of
// pgfx.StalledStatement.
type StalledStatement struct {
	PID    uint32
	For    time.Duration
	Silent bool

	conn   *Conn
	number int64
}

// Stalled returns the statements that have been running for at least atLeast, nil if any statement of the pool has succeeded
// within that time.
func (c *Collector) Stalled(atLeast time.Duration) []StalledStatement {
	var stalled []StalledStatement
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.now()
	for conn := range c.conns {
		conn.mu.Lock()
		lastSuccess, began, running, number := conn.lastSuccess, conn.began, conn.running, conn.number
		conn.mu.Unlock()
		if lastSuccess > 0 && now-lastSuccess < atLeast {
			return nil
		}
		if took := now - began; running && took >= atLeast {
			pg := conn.conn.PgConn()
			stalled = append(stalled, StalledStatement{
				PID: pg.PID(), For: took, Silent: sinceReceived(pg.Conn()) >= took, conn: conn, number: number,
			})
		}
	}
	if len(stalled) > 0 {
		c.forgetHijacked()
		stalled = slices.DeleteFunc(stalled, func(s StalledStatement) bool { return s.conn.hijacked.Load() })
	}
	return stalled
}

// Abandon closes the socket of the statement's connection if the statement is still running, and reports whether it was.
func (s StalledStatement) Abandon() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if !s.conn.running || s.conn.number != s.number {
		return false
	}
	abort(s.conn.conn.PgConn().Conn())
	return true
}

// abort closes the socket of a connection at once and drops what has not been sent (socket(7), SO_LINGER). Closing a TLS
// connection would first wait to send an alert.
func abort(conn net.Conn) {
	conn = rawConn(conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection is given up: its error does not matter
	}
	_ = conn.Close() // as above
}

// rawConn returns the connection under TLS and other wrappers.
func rawConn(conn net.Conn) net.Conn {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = inner.NetConn()
	}
}
