package faults

import (
	"context"
	"net"
	"time"
)

// dialTimeout bounds dialing the upstream server, which runs on the same host.
const dialTimeout = 5 * time.Second

// proxiedConn is a client's connection together with the proxy's connection to the server.
type proxiedConn struct {
	proxy  *Proxy
	client net.Conn
	// done is closed when the connection has ended.
	done chan struct{}

	// The following fields are guarded by proxy.mu.
	server       net.Conn
	ended        bool
	paused       bool        // nothing is forwarded until the proxy heals
	blackHoled   bool        // nothing is forwarded anymore
	commitFault  CommitFault // of the COMMIT in progress
	clientClosed bool
	loggedIn     bool
	// negotiating is set between a client's request for encryption and the server's reply of one byte.
	negotiating bool
	encrypted   bool
}

// serve forwards data until both sides have closed.
func (c *proxiedConn) serve() {
	defer c.reset()
	toServer := &stream{conn: c, direction: ToServer, chunks: make(chan chunk, chunkQueue)}
	toServer.scan = scanner{types: frontendTypes, untyped: true}
	toClient := &stream{conn: c, direction: ToClient, chunks: make(chan chunk, chunkQueue)}
	toClient.scan = scanner{types: "CZ"} // CommandComplete, ReadyForQuery
	if c.proxy.otherProto {
		toServer.scan, toClient.scan = scanner{opaque: true}, scanner{opaque: true}
	}
	// Read from the client immediately, to notice its end even while nothing is forwarded.
	c.proxy.goroutines.Go(func() { toServer.read(c.client) })
	if !toServer.await(time.Now()) {
		return
	}
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(context.Background(), c.proxy.network, c.proxy.upstream)
	if err != nil || !c.setServer(server) {
		return
	}
	c.proxy.goroutines.Go(func() { toClient.read(server) })
	written := make(chan struct{})
	c.proxy.goroutines.Go(func() {
		toServer.write(server)
		close(written)
	})
	toClient.write(c.client)
	<-written
	c.end(func(conn net.Conn) { _ = conn.Close() }) // not a RST, which would discard unread data
}

// setServer stores the connection to the server. It returns false if the client's connection has ended in the meantime.
func (c *proxiedConn) setServer(server net.Conn) bool {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	if c.ended {
		_ = server.Close()
		return false
	}
	c.server = server
	return true
}

// reset resets both sides.
func (c *proxiedConn) reset() { c.end(reset) }

func (c *proxiedConn) end(closeConn func(net.Conn)) {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.endLocked(closeConn)
}

// endLocked closes both sides once. The caller must hold proxy.mu.
func (c *proxiedConn) endLocked(closeConn func(net.Conn)) {
	if c.ended {
		return
	}
	c.ended = true
	close(c.done)
	closeConn(c.client)
	if c.server != nil {
		closeConn(c.server)
	}
	delete(c.proxy.conns, c)
	c.proxy.notifyLocked()
}

func (c *proxiedConn) setClientClosed() {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.clientClosed = true
	c.proxy.notifyLocked()
}

// setEncrypted records that the protocol can't be parsed from now on.
func (c *proxiedConn) setEncrypted() {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	c.encrypted = true
	if p.faults.nextCommit != CommitPasses || p.faults.onCommit != nil || p.faults.resetNew == AfterLogin {
		p.tb.Error("faults: proxy: can't apply the fault to an encrypted connection: connect with sslmode=disable")
	}
}

// encryptionReply checks whether the server's next byte is its reply to a request for encryption. handled is true if the
// byte is such a reply and not the type of a message.
func (c *proxiedConn) encryptionReply(next byte) (handled, encrypted bool) {
	c.proxy.mu.Lock()
	requested := c.negotiating
	c.negotiating = false
	c.proxy.mu.Unlock()
	encrypted = requested && (next == 'S' || next == 'G')
	if encrypted {
		c.setEncrypted()
	}
	return encrypted || requested && next == 'N', encrypted
}

// clientMessage returns the action for a message of the client.
func (c *proxiedConn) clientMessage(kind byte, body []byte, session *frontend) action {
	if kind == startupMessage {
		c.proxy.mu.Lock()
		defer c.proxy.mu.Unlock()
		c.negotiating = requestsEncryption(body)
		return forward
	}
	if !session.isCommit(kind, body) {
		return forward
	}
	return c.commit()
}

// serverMessage returns the action for a message of the server.
func (c *proxiedConn) serverMessage(kind byte, body []byte) action {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	switch {
	case kind == 'C' && isCommitTag(body):
		return c.commitAckLocked()
	case kind == 'Z':
		first := !c.loggedIn
		c.loggedIn = true
		c.commitFault = CommitPasses
		if first && c.proxy.faults.resetNew == AfterLogin {
			return forwardThenReset
		}
	}
	return forward
}

// commit returns the action for a COMMIT and records the fault for its acknowledgement.
func (c *proxiedConn) commit() action {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	faults := &c.proxy.faults
	fault := CommitPasses
	switch {
	case faults.nextCommit == CommitDropped:
		faults.nextCommit, fault = CommitPasses, CommitDropped
	case faults.nextCommit == CommitPasses && faults.onCommit != nil:
		fault = faults.onCommit()
	}
	switch fault {
	case CommitDropped:
		return dropAndReset
	case CommitHalfOpen:
		return dropAndResetClient
	case CommitPasses, CommitAckDropped, CommitAckBlackHoled:
	}
	c.commitFault = fault
	return forward
}

// commitAckLocked returns the action for the acknowledgement of a COMMIT. The caller must hold proxy.mu.
func (c *proxiedConn) commitAckLocked() action {
	faults := &c.proxy.faults
	fault := c.commitFault
	if next := faults.nextCommit; next == CommitAckDropped || next == CommitAckBlackHoled {
		faults.nextCommit, fault = CommitPasses, next
	}
	switch fault {
	case CommitAckDropped:
		return dropAndReset
	case CommitAckBlackHoled:
		c.blackHoled = true
		return dropAndPause
	case CommitPasses, CommitDropped, CommitHalfOpen:
	}
	return forward
}
