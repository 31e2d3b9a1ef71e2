package poolstats

import (
	"net"
	"slices"
	"time"
)

// StalledStatement is a statement that waits while no statement of the pool succeeds. The fields are those of
// pgfx.StalledStatement.
type StalledStatement struct {
	PID            uint32
	BackendStarted int64
	For            time.Duration
	Silent         bool

	conn   *Conn
	number int64
}

// kernelTick is the resolution of sinceReceived. A statement that follows an answer at once would else look as if it had received
// data.
const kernelTick = 10 * time.Millisecond

// Stalled returns the statements that have been running for at least atLeast, nil if any statement of the pool has succeeded
// within that time.
func (c *Collector) Stalled(atLeast time.Duration) []StalledStatement {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.now()
	for conn := range c.conns {
		conn.mu.Lock()
		lastSuccess := conn.lastSuccess
		conn.mu.Unlock()
		if lastSuccess > 0 && now-lastSuccess < atLeast {
			return nil
		}
	}
	return c.runningLocked(atLeast, time.Now())
}

// Running returns the statements that have been running for at least atLeast on connections that were opened before a time.
func (c *Collector) Running(atLeast time.Duration, openedBefore time.Time) []StalledStatement {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runningLocked(atLeast, openedBefore)
}

// runningLocked is Running for a caller that holds c.mu.
func (c *Collector) runningLocked(atLeast time.Duration, openedBefore time.Time) []StalledStatement {
	var found []StalledStatement
	now := c.clock.now()
	for conn := range c.conns {
		conn.mu.Lock()
		began, running, number := conn.began, conn.running, conn.number
		conn.mu.Unlock()
		if took := now - began; running && took >= atLeast && conn.opened.Before(openedBefore) {
			pg := conn.conn.PgConn()
			found = append(found, StalledStatement{
				PID: pg.PID(), BackendStarted: conn.backendStarted, For: took, Silent: sinceReceived(pg.Conn())+kernelTick >= took,
				conn: conn, number: number,
			})
		}
	}
	if len(found) > 0 {
		c.forgetHijacked()
		found = slices.DeleteFunc(found, func(s StalledStatement) bool { return s.conn.hijacked.Load() })
	}
	return found
}

// Abandon closes the socket of the statement's connection if the statement is still running. It returns the socket, or nil if the
// statement was not running.
func (s StalledStatement) Abandon() net.Conn {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if !s.conn.running || s.conn.number != s.number {
		return nil
	}
	socket := RawConn(s.conn.conn.PgConn().Conn())
	abort(socket)
	return socket
}

// abort closes the socket of a connection at once and drops what has not been sent (socket(7), SO_LINGER). Closing a TLS
// connection would first wait to send an alert.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection is given up: its error does not matter
	}
	_ = conn.Close() // as above
}

// RawConn returns the connection under TLS and other wrappers.
func RawConn(conn net.Conn) net.Conn {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = inner.NetConn()
	}
}
