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

// player is a connection that is served from the tape. It allocates nothing once its buffers have grown.
type player struct {
	tape    *Tape
	records map[uint64]*record
	address address
	served  atomic.Int64

	mu      sync.Mutex
	more    *sync.Cond // answers have come, or the end has
	form    form
	state   uint64
	answers [][]byte // what the client hasn't read yet
	next    int      // the first of them
	expired bool     // the deadline for reading has passed
	failed  error
	closed  bool
}

func newPlayer(t *Tape, network, where string) *player {
	p := &player{tape: t, records: t.records, address: address{network, where}, form: form{seed: t.seed}}
	p.more = sync.NewCond(&p.mu)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[p] = struct{}{}
	return p
}

// A request to cancel is the only message of its connection (PostgreSQL manual, "Message Formats").
const (
	cancelSize = 16
	cancelCode = 80877102
)

// Write takes what the client writes. An exchange that isn't on the tape is an error.
func (p *player) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	if !p.form.started && len(b) == cancelSize && binary.BigEndian.Uint32(b[4:]) == cancelCode {
		_ = p.fail(io.EOF) // as a server does; nothing runs that could be cancelled
		return len(b), nil
	}
	for rest := b; len(rest) > 0; {
		after, sum, ended, err := p.form.next(rest)
		if err != nil {
			return 0, p.fail(p.tape.fail(err))
		}
		if ended {
			r, ok := p.records[mix(sum, p.state)]
			if !ok {
				return 0, p.fail(p.tape.unknown(rest))
			}
			p.state = r.after
			p.answers = append(p.answers, r.answer())
			p.served.Add(1)
			p.more.Broadcast()
		}
		rest = after
	}
	return len(b), nil
}

// fail ends the connection from the server's side.
func (p *player) fail(err error) error {
	p.failed = err
	p.more.Broadcast()
	return err
}

// Read returns the answers in the order of the exchanges. Without one it waits, as a client that reads beside writing does.
func (p *player) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next == len(p.answers) {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.failed != nil:
			return 0, p.failed
		case p.expired:
			return 0, os.ErrDeadlineExceeded
		}
		p.more.Wait()
	}
	n := copy(b, p.answers[p.next])
	if p.answers[p.next] = p.answers[p.next][n:]; len(p.answers[p.next]) == 0 {
		if p.next++; p.next == len(p.answers) {
			p.answers, p.next = p.answers[:0], 0
		}
	}
	return n, nil
}

// Close ends the connection.
func (p *player) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.more.Broadcast()
	p.mu.Unlock()
	if !closed {
		p.tape.mu.Lock()
		defer p.tape.mu.Unlock()
		delete(p.tape.conns, p)
		p.tape.served.Add(p.served.Load())
	}
	return nil
}

// SetDeadline lets reads that would wait fail when t has passed already. Later deadlines can't be missed: a played server
// answers at once.
func (p *player) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expired = !t.IsZero() && !t.After(time.Now())
	p.more.Broadcast()
	return nil
}

// SetReadDeadline is SetDeadline.
func (p *player) SetReadDeadline(t time.Time) error { return p.SetDeadline(t) }

// SetWriteDeadline does nothing: writing never waits.
func (p *player) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr returns the address of the server that isn't there.
func (p *player) LocalAddr() net.Addr { return p.address }

// RemoteAddr returns the address of the server that isn't there.
func (p *player) RemoteAddr() net.Addr { return p.address }

// address is where the recorded server was.
type address struct{ network, where string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.where }
