package faults

import "time"

// networkFaults holds the active faults of a proxy.
type networkFaults struct {
	pauseNew   bool
	resetNew   ResetTime
	latency    time.Duration
	bandwidth  int // bytes per second, 0 for unlimited
	resetAfter [2]*byteBudget
	nextCommit CommitFault        // applies to one COMMIT
	onCommit   func() CommitFault // called for each COMMIT
}

// Direction selects the client's or the server's data.
type Direction int

const (
	// ToServer is the direction from the clients to the server.
	ToServer Direction = iota
	// ToClient is the direction from the server to the clients.
	ToClient
)

// byteBudget is the number of bytes of one call of [Proxy.ResetAfter]. Each stream counts what it has used of it.
type byteBudget struct{ bytes int }

// CommitFault determines the outcome of a COMMIT, see [Proxy.OnCommit].
type CommitFault int

const (
	// CommitPasses forwards COMMIT and its acknowledgement.
	CommitPasses CommitFault = iota
	// CommitDropped drops COMMIT and resets both sides of the connection. The server rolls back.
	CommitDropped
	// CommitHalfOpen drops COMMIT and resets only the client's side. The server does not notice, so the transaction and its
	// locks stay open.
	CommitHalfOpen
	// CommitAckDropped forwards COMMIT, drops its acknowledgement and resets both sides. The transaction is committed.
	CommitAckDropped
	// CommitAckBlackHoled forwards COMMIT and drops everything that follows, but keeps both sides open. The transaction is
	// committed, and the client waits for the reply.
	CommitAckBlackHoled
)

// ResetTime determines when [Proxy.AcceptThenReset] resets a connection.
type ResetTime int

const (
	_ ResetTime = iota // no reset
	// OnAccept resets a connection as soon as it is accepted.
	OnAccept
	// AfterLogin resets a connection when the server reports that it is ready for the first statement. It requires
	// connections without TLS.
	AfterLogin
)

// update changes the faults and wakes all waiters.
func (p *Proxy) update(change func(*networkFaults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	p.notifyLocked()
}

// ResetConnections resets both sides of all existing connections with a RST. New connections are not affected. As on a real
// network, a backend that is executing a statement notices the reset when it sends its reply.
func (p *Proxy) ResetConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.endLocked(reset)
	}
}

// BlackHole stops forwarding on existing connections in both directions, without closing them. The end of a connection is
// not forwarded either. New connections are not affected.
//
// As on a real network, data sent in the meantime arrives after [Proxy.Heal]. It is lost if the connection is reset first.
// Writes block when the sender's buffers are full.
func (p *Proxy) BlackHole() { p.pause(false) }

// BlackHoleAll is like [Proxy.BlackHole] but includes new connections: they are accepted, but nothing is forwarded.
func (p *Proxy) BlackHoleAll() { p.pause(true) }

func (p *Proxy) pause(includeNew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.pauseNew = includeNew
	for conn := range p.conns {
		conn.paused = true
	}
	p.notifyLocked()
}

// Slow adds latency in each direction and limits the bandwidth of each connection in each direction. It affects existing
// and new connections. Zero disables the latency or the limit.
func (p *Proxy) Slow(latency time.Duration, bytesPerSecond int) {
	p.update(func(f *networkFaults) { f.latency, f.bandwidth = latency, max(bytesPerSecond, 0) })
}

// ResetAfter resets each connection after n more bytes have been forwarded in the given direction. With n = 0, the next
// byte in that direction resets the connection.
//
// It affects existing and new connections. For new ones, the login counts: without TLS, it takes a few hundred bytes.
func (p *Proxy) ResetAfter(direction Direction, n int) {
	p.update(func(f *networkFaults) { f.resetAfter[direction] = &byteBudget{bytes: max(n, 0)} })
}

// DropCommitAck applies [CommitAckDropped] to the next successful COMMIT on any connection: the transaction is committed, but
// the client gets no reply.
//
// The proxy parses the protocol to find COMMIT, so connections must not use TLS (sslmode=disable).
func (p *Proxy) DropCommitAck() {
	p.setCommitFault(func(f *networkFaults) { f.nextCommit = CommitAckDropped })
}

// BlackHoleCommitAck applies [CommitAckBlackHoled] to the next successful COMMIT on any connection: the transaction is
// committed, and the client waits for the reply. See [Proxy.DropCommitAck].
func (p *Proxy) BlackHoleCommitAck() {
	p.setCommitFault(func(f *networkFaults) { f.nextCommit = CommitAckBlackHoled })
}

// DropCommit applies [CommitDropped] to the next COMMIT on any connection: the transaction is rolled back. See
// [Proxy.DropCommitAck].
func (p *Proxy) DropCommit() {
	p.setCommitFault(func(f *networkFaults) { f.nextCommit = CommitDropped })
}

// OnCommit calls decide before each COMMIT is forwarded and applies the fault that it returns. Use it to affect many
// commits, or to run code at the time of a commit. A nil decide disables it.
//
// Calls of decide are serialized. It must not call methods of the proxy. A pending fault of [Proxy.DropCommit],
// [Proxy.DropCommitAck] or [Proxy.BlackHoleCommitAck] takes precedence.
func (p *Proxy) OnCommit(decide func() CommitFault) {
	p.setCommitFault(func(f *networkFaults) { f.onCommit = decide })
}

func (p *Proxy) setCommitFault(set func(*networkFaults)) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if conn.encrypted {
			p.tb.Fatal("faults: proxy: can't find COMMIT on an encrypted connection: connect with sslmode=disable")
		}
	}
	set(&p.faults)
}

// RefuseNew refuses new connections ("connection refused"). Existing connections are not affected.
func (p *Proxy) RefuseNew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// AcceptThenReset accepts new connections and resets them at the given time. Existing connections are not affected.
func (p *Proxy) AcceptThenReset(when ResetTime) {
	p.update(func(f *networkFaults) { f.resetNew = when })
}

// Heal ends all faults: delayed data is delivered, and new connections are accepted on the same port. Connections that were
// reset stay closed.
func (p *Proxy) Heal() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = networkFaults{}
	for conn := range p.conns {
		conn.paused = false
	}
	p.notifyLocked()
	if p.listener != nil || p.closed {
		return
	}
	if err := p.listenLocked(); err != nil {
		p.tb.Fatalf("faults: proxy: listen again: %v", err)
	}
}
