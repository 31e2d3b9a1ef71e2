package faults

import "time"

// faults is what is wrong with the network for the moment.
type faults struct {
	holdNew bool
	kill    ResetTime
	latency time.Duration
	rate    int // bytes a second, 0 for no limit
	drop    [2]*dropOrder
	commit  CommitFault        // of the next one
	decide  func() CommitFault // of each one
}

// Direction is one of the two ways through a [Proxy].
type Direction int

const (
	// ToServer is the way of what clients send.
	ToServer Direction = iota
	// ToClient is the way of the server's answers.
	ToClient
)

// dropOrder is one order to drop. Which connection has used up how much of it is known to the connection.
type dropOrder struct{ bytes int }

// CommitFault is what becomes of a COMMIT, see [Proxy.OnCommit].
type CommitFault int

const (
	// CommitPasses lets it and its acknowledgement through.
	CommitPasses CommitFault = iota
	// CommitLost is the fate that [Proxy.LoseCommit] gives.
	CommitDropped
	// CommitHeld keeps it from the server, as CommitLost does, and resets the client's side only: the server isn't told that its
	// client has gone, and the transaction stays open.
	CommitHalfOpen
	// AckLost is the fate that [Proxy.LoseCommitAck] gives.
	CommitAckDropped
	// AckMuted is the fate that [Proxy.MuteCommitAck] gives.
	CommitAckBlackHoled
)

// Kill says when [Proxy.AcceptThenKill] kills a connection.
type ResetTime int

const (
	_ ResetTime = iota // not at all
	// AtOnce kills a connection as soon as it is accepted.
	OnAccept
	// AfterLogin lets the client log in and kills the connection when the server is ready for the first statement. It sees nothing
	// in encrypted connections.
	AfterLogin
)

// update changes the faults and wakes whoever waits for a change.
func (p *Proxy) update(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	p.change()
}

// Cut resets all connections that exist: both ends get a RST. New ones work. A backend that is executing a statement notices
// when it has something to send, as with a real network.
func (p *Proxy) ResetConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.endLocked(reset)
	}
}

// BlackHole makes nothing arrive any more on the connections that exist, in either direction, neither data nor the end of
// the connection; new ones work. As with a real network, what is sent meanwhile arrives after [Proxy.Heal], unless the
// connection has been cut or the sender's buffers are full before.
func (p *Proxy) BlackHole() { p.hold(false) }

// BlackHoleAll is [Proxy.BlackHole] for new connections too: they are accepted, and nothing arrives on them.
func (p *Proxy) BlackHoleAll() { p.hold(true) }

func (p *Proxy) hold(alsoNew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults.holdNew = alsoNew
	for l := range p.links {
		l.held = true
	}
	p.change()
}

// Slow delays what passes in each direction by latency, and lets at most bytesPerSecond pass in each direction of each
// connection, on the connections that exist and on new ones. Zero means no delay and no limit.
func (p *Proxy) Slow(latency time.Duration, bytesPerSecond int) {
	p.update(func(f *faults) { f.latency, f.rate = latency, max(bytesPerSecond, 0) })
}

// DropAfter cuts each connection, as [Proxy.Cut] does, as soon as n more bytes have passed in the direction; with n = 0 the
// next byte that would pass cuts it. New connections are counted from their start: without encryption a login takes some
// hundred bytes.
func (p *Proxy) ResetAfter(direction Direction, n int) {
	p.update(func(f *faults) { f.drop[direction] = &dropOrder{bytes: max(n, 0)} })
}

// LoseCommitAck makes the server's answer to the next COMMIT disappear, and the connection with it: the transaction is
// committed and its client doesn't learn of it. COMMITs that fail don't count. It happens once, to one of the proxy's
// connections.
//
// COMMITs are recognised in the protocol, so that connections must not be encrypted (sslmode=disable).
func (p *Proxy) DropCommitAck() { p.onCommit(func(f *faults) { f.commit = CommitAckDropped }) }

// MuteCommitAck is [Proxy.LoseCommitAck] with a connection that stays open: the client waits for an answer that doesn't come.
func (p *Proxy) BlackHoleCommitAck() { p.onCommit(func(f *faults) { f.commit = CommitAckBlackHoled }) }

// LoseCommit makes the next COMMIT disappear before it reaches the server, and the connection with it: the transaction is
// rolled back. See [Proxy.LoseCommitAck].
func (p *Proxy) DropCommit() { p.onCommit(func(f *faults) { f.commit = CommitDropped }) }

// OnCommit has decide called when a COMMIT passes, and gives it the fate that decide returns: for many at once, and for tests
// that act at the moment of a COMMIT. nil ends it. decide is called by one goroutine at a time and must not call the proxy's
// methods. The orders for a single COMMIT are carried out first.
func (p *Proxy) OnCommit(decide func() CommitFault) {
	p.onCommit(func(f *faults) { f.decide = decide })
}

func (p *Proxy) onCommit(order func(*faults)) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.encrypted {
			p.tb.Fatal("faults: proxy: a connection is encrypted, so that its COMMIT can't be seen: connect with sslmode=disable")
		}
	}
	order(&p.faults)
}

// RefuseNew makes new connections fail with "connection refused". Those that exist go on.
func (p *Proxy) RefuseNew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close() // that it is closed is all that matters
		p.listener = nil
	}
}

// AcceptThenKill accepts new connections and resets them at the moment that when says. Those that exist go on.
func (p *Proxy) AcceptThenReset(when ResetTime) {
	p.update(func(f *faults) { f.kill = when })
}

// Heal ends all faults: what was held back arrives, and new connections are accepted, on the same port as before.
// Connections that were cut stay cut.
func (p *Proxy) Heal() {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults{}
	for l := range p.links {
		l.held = false
	}
	p.change()
	if p.listener != nil || p.closed {
		return
	}
	if err := p.listen(); err != nil {
		p.tb.Fatalf("faults: proxy: listen again: %v", err)
	}
}
