package replay

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// player is a connection that is served from the tape. It allocates no memory once its buffers have grown.
type player struct {
	tape    *Tape
	records map[uint64]*record
	address address
	served  atomic.Int64

	mu      sync.Mutex
	changed *sync.Cond // a reply was added, or reading ends
	digest  digest
	state   uint64
	replies [][]byte // not yet read by the client from next on
	next    int
	expired bool // the read deadline has passed
	failed  error
	closed  bool
}

func newPlayer(t *Tape, network, name string) *player {
	p := &player{tape: t, records: t.records, address: address{network, name}, digest: digest{seed: t.seed}}
	p.changed = sync.NewCond(&p.mu)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[p] = struct{}{}
	return p
}

// A cancel request is the only message of its connection (PostgreSQL manual, "Message Formats").
const (
	cancelSize = 16
	cancelCode = 80877102
)

// Write receives messages of the client. It fails if an exchange was not recorded.
func (p *player) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	if !p.digest.started && len(b) == cancelSize && binary.BigEndian.Uint32(b[4:]) == cancelCode {
		_ = p.fail(io.EOF) // like a server; no statement is running
		return len(b), nil
	}
	for rest := b; len(rest) > 0; {
		after, sum, ended, err := p.digest.next(rest)
		if err != nil {
			return 0, p.fail(p.tape.fail(err))
		}
		if ended {
			r, ok := p.records[mix(sum, p.state)]
			if !ok {
				return 0, p.fail(p.tape.unknown(rest))
			}
			p.state = r.after
			p.replies = append(p.replies, r.reply())
			p.served.Add(1)
			p.changed.Broadcast()
		}
		rest = after
	}
	return len(b), nil
}

// fail ends the connection from the server's side.
func (p *player) fail(err error) error {
	p.failed = err
	p.changed.Broadcast()
	return err
}

// Read returns the replies in the order of the exchanges. It waits for the next one, because clients read and write
// concurrently.
func (p *player) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next == len(p.replies) {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.failed != nil:
			return 0, p.failed
		case p.expired:
			return 0, os.ErrDeadlineExceeded
		}
		p.changed.Wait()
	}
	n := copy(b, p.replies[p.next])
	if p.replies[p.next] = p.replies[p.next][n:]; len(p.replies[p.next]) == 0 {
		if p.next++; p.next == len(p.replies) {
			p.replies, p.next = p.replies[:0], 0
		}
	}
	return n, nil
}

// Close ends the connection.
func (p *player) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	if !closed {
		p.tape.mu.Lock()
		defer p.tape.mu.Unlock()
		delete(p.tape.conns, p)
		p.tape.served.Add(p.served.Load())
	}
	return nil
}

// SetDeadline makes waiting reads fail if t has passed. It ignores later deadlines, because replies are immediate.
func (p *player) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expired = !t.IsZero() && !t.After(time.Now())
	p.changed.Broadcast()
	return nil
}

// SetReadDeadline is like SetDeadline.
func (p *player) SetReadDeadline(t time.Time) error { return p.SetDeadline(t) }

// SetWriteDeadline does nothing, because writes never wait.
func (p *player) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr returns the address of the recorded server.
func (p *player) LocalAddr() net.Addr { return p.address }

// RemoteAddr returns the address of the recorded server.
func (p *player) RemoteAddr() net.Addr { return p.address }

// address is the address of the recorded server.
type address struct{ network, name string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.name }
