package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// link is a client's connection and its continuation to the server.
type link struct {
	proxy  *Proxy
	client net.Conn
	// done is closed when the link is cut or has ended.
	done chan struct{}

	// What follows is guarded by the proxy's lock.
	server     net.Conn
	over       bool
	held       bool        // nothing passes until the proxy heals
	muted      bool        // nothing passes any more
	fate       CommitFault // of the COMMIT that is under way
	clientGone bool
	loggedIn   bool
	// negotiating holds between a client's question for encryption and the server's answer of one byte.
	negotiating bool
	encrypted   bool
}

// serve passes everything on until both sides have ended.
func (l *link) serve() {
	defer l.cut()
	toServer := &stream{link: l, direction: ToServer, pieces: make(chan piece, queue)}
	toServer.scan = scanner{wants: frontendTypes, untyped: true}
	toClient := &stream{link: l, direction: ToClient, pieces: make(chan piece, queue)}
	toClient.scan = scanner{wants: "CZ"}
	// The client is read from the beginning, so that its end is noticed even while nothing passes.
	l.proxy.work.Go(func() { toServer.read(l.client) })
	if !toServer.await(time.Now()) {
		return
	}
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(context.Background(), l.proxy.network, l.proxy.server)
	if err != nil || !l.attach(server) {
		return
	}
	l.proxy.work.Go(func() { toClient.read(server) })
	written := make(chan struct{})
	l.proxy.work.Go(func() {
		toServer.write(server)
		close(written)
	})
	toClient.write(l.client)
	<-written
	l.end(func(conn net.Conn) { _ = conn.Close() }) // both sides have been told: what is under way arrives
}

// attach gives the link its other end, unless it has been cut meanwhile.
func (l *link) attach(server net.Conn) bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if l.over {
		_ = server.Close()
		return false
	}
	l.server = server
	return true
}

// cut resets both ends.
func (l *link) cut() { l.end(reset) }

func (l *link) end(closeConn func(net.Conn)) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.endLocked(closeConn)
}

// endLocked closes both ends, once. The proxy's lock must be held.
func (l *link) endLocked(closeConn func(net.Conn)) {
	if l.over {
		return
	}
	l.over = true
	close(l.done)
	closeConn(l.client)
	if l.server != nil {
		closeConn(l.server)
	}
	delete(l.proxy.links, l)
	l.proxy.change()
}

func (l *link) clientEnded() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.clientGone = true
	l.proxy.change()
}

// piece is what one read yielded, and when.
type piece struct {
	data []byte
	at   time.Time
}

const (
	pieceSize = 32 << 10
	// queue is how many pieces one direction holds before its sender has to wait.
	queue = 64
	// dialTimeout is how long a server may take to accept; one on this host does so at once or not at all.
	dialTimeout = 5 * time.Second
	// smooth is into how many pieces a second a limited rate is divided.
	smooth = 50
)

// stream is one direction of a link. A reader and a writer are decoupled, so that a delay doesn't limit the rate.
type stream struct {
	link      *link
	direction Direction
	pieces    chan piece
	// err is how the source ended; it is set before pieces is closed.
	err error

	// What follows belongs to the writer.
	scan     scanner
	frontend frontend
	free     time.Time // when the rate allows the next byte
	drop     *dropOrder
	left     int // bytes until drop cuts the link
}

func (s *stream) read(from net.Conn) {
	defer close(s.pieces)
	for {
		buffer := make([]byte, pieceSize)
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case s.pieces <- piece{data: buffer[:n:n], at: time.Now()}:
			case <-s.link.done:
				return
			}
		}
		if err != nil {
			s.err = err
			if s.direction == ToServer {
				s.link.clientEnded()
			}
			return
		}
	}
}

// write passes on what the reader gets, and then the end. It cuts the link when that fails.
func (s *stream) write(to net.Conn) {
	last := time.Now()
	for next := range s.pieces {
		last = next.at
		if !s.await(next.at) || !s.forward(next, to) {
			s.link.cut()
			return
		}
	}
	if !s.await(last) {
		return
	}
	if _, err := to.Write(s.scan.rest()); err != nil || !errors.Is(s.err, io.EOF) {
		s.link.cut()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		s.link.cut()
	}
}

// await waits until something that came in at that time may go on. It returns false when the link has ended.
func (s *stream) await(at time.Time) bool {
	p := s.link.proxy
	for {
		p.mu.Lock()
		held, changed := s.link.held || s.link.muted, p.changed
		due := at.Add(p.faults.latency)
		if p.faults.rate > 0 && s.free.After(due) {
			due = s.free
		}
		p.mu.Unlock()
		var timer <-chan time.Time
		if !held {
			wait := time.Until(due)
			if wait <= 0 {
				return !s.ended()
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-s.link.done:
			return false
		}
	}
}

func (s *stream) ended() bool {
	select {
	case <-s.link.done:
		return true
	default:
		return false
	}
}

// forward passes on what may be of a piece. It returns false when the link is to be cut.
func (s *stream) forward(next piece, to net.Conn) bool {
	data, what := s.inspect(next.data)
	for len(data) > 0 {
		if !s.await(next.at) {
			return false
		}
		n, cut := s.allow(len(data))
		if _, err := to.Write(data[:n]); err != nil || cut {
			return false
		}
		data = data[n:]
	}
	switch what {
	case cutBefore, cutAfter:
		return false
	case muteHere:
		s.await(next.at) // until the link ends
		return false
	case holdHere:
		reset(s.link.client)
		<-s.link.done // the server ends it, or the test
		return false
	case pass:
	}
	return true
}

// allow returns how many of n bytes may be written at once, and whether the link is to be cut behind them.
func (s *stream) allow(n int) (allowed int, cut bool) {
	p := s.link.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if order := p.faults.drop[s.direction]; order != s.drop {
		s.drop = order
		if order != nil {
			s.left = order.bytes
		}
	}
	if rate := p.faults.rate; rate > 0 {
		n = min(n, max(1, rate/smooth))
	}
	if s.drop != nil {
		n = min(n, s.left)
		s.left -= n
		cut = s.left == 0
	}
	if rate := p.faults.rate; rate > 0 {
		now := time.Now()
		if s.free.Before(now) {
			s.free = now
		}
		s.free = s.free.Add(time.Duration(n) * time.Second / time.Duration(rate))
	}
	return n, cut
}

// inspect reads the messages in data and returns what of it may pass.
func (s *stream) inspect(data []byte) ([]byte, verdict) {
	if s.direction == ToClient && s.answered(data[0]) {
		return data, pass
	}
	wasOpaque := s.scan.opaque
	data, what := s.scan.feed(data, s.judge)
	if s.scan.opaque && !wasOpaque {
		s.encrypted()
	}
	return data, what
}

// answered takes the server's answer to the question for encryption: a single byte that is no message. It reports whether
// data begins with it and is done with.
func (s *stream) answered(first byte) bool {
	l := s.link
	l.proxy.mu.Lock()
	asked := l.negotiating
	l.negotiating = false
	l.proxy.mu.Unlock()
	if !asked {
		return false
	}
	switch first {
	case 'S', 'G':
		s.scan.opaque = true
		s.encrypted()
		return true
	case 'N':
		return true
	default: // an error message
		return false
	}
}

// encrypted notes that no message can be seen from here on.
func (s *stream) encrypted() {
	p := s.link.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	s.link.encrypted = true
	if p.faults.commit != CommitPasses || p.faults.decide != nil || p.faults.kill == AfterLogin {
		p.tb.Error("faults: proxy: a connection is encrypted, so that the fault can't be timed: connect with sslmode=disable")
	}
}

// judge decides about a message that the scanner has found.
func (s *stream) judge(kind byte, body []byte) verdict {
	p := s.link.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.direction == ToServer && kind == startupMessage:
		s.link.negotiating = negotiates(body)
	case s.direction == ToServer:
		if s.frontend.isCommit(kind, body) {
			return s.link.commit()
		}
	case kind == 'C' && isCommitTag(body):
		return s.link.acknowledge()
	case kind == 'Z':
		first := !s.link.loggedIn
		s.link.loggedIn = true
		s.link.fate = CommitPasses
		if first && p.faults.kill == AfterLogin {
			return cutAfter
		}
	}
	return pass
}

// commit decides about a COMMIT. The proxy's lock must be held.
func (l *link) commit() verdict {
	faults := &l.proxy.faults
	fate := CommitPasses
	switch {
	case faults.commit == CommitDropped:
		faults.commit, fate = CommitPasses, CommitDropped
	case faults.commit == CommitPasses && faults.decide != nil:
		fate = faults.decide()
	}
	switch fate {
	case CommitDropped:
		return cutBefore
	case CommitHalfOpen:
		return holdHere
	case CommitPasses, CommitAckDropped, CommitAckBlackHoled:
	}
	l.fate = fate
	return pass
}

// acknowledge decides about the acknowledgement of a COMMIT. The proxy's lock must be held.
func (l *link) acknowledge() verdict {
	faults := &l.proxy.faults
	fate := l.fate
	if order := faults.commit; order == CommitAckDropped || order == CommitAckBlackHoled {
		faults.commit, fate = CommitPasses, order
	}
	switch fate {
	case CommitAckDropped:
		return cutBefore
	case CommitAckBlackHoled:
		l.muted = true
		return muteHere
	case CommitPasses, CommitDropped, CommitHalfOpen:
	}
	return pass
}
