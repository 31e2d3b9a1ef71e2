package replay

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Tape records the exchanges of the connections that are dialed through it, and then plays them. Its methods are safe for
// concurrent use. It is made by [New].
type Tape struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	seed    maphash.Seed
	playing atomic.Bool
	served  atomic.Int64 // by connections that are closed

	mu      sync.Mutex
	records map[uint64]*record // not written to once playing
	names   map[string]string  // texts of prepared statements
	conns   map[*player]struct{}
	err     error
	excused string
}

// record is what was answered to an exchange, each time that it was recorded.
type record struct {
	answers [][]byte
	played  atomic.Uint32
	after   uint64 // the state of the connection behind it
}

// answer returns the next answer.
func (r *record) answer() []byte {
	if len(r.answers) == 1 {
		return r.answers[0]
	}
	return r.answers[int(r.played.Add(1)-1)%len(r.answers)]
}

// New returns an empty tape that records. dial makes the connections to record; nil is a [net.Dialer].
func New(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Tape {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Tape{
		dial: dial, seed: maphash.MakeSeed(),
		records: make(map[uint64]*record), names: make(map[string]string), conns: make(map[*player]struct{}),
	}
}

// Dial is pgconn.Config's DialFunc. While the tape records it dials the real server, with ctx; then it returns a connection
// that is played, at once.
func (t *Tape) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if t.playing.Load() {
		return newPlayer(t, network, address), nil
	}
	conn, err := t.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newRecorder(t, conn), nil
}

// Play ends recording: connections that are dialed from now on are served from the tape. What is still open goes on with
// the real server and isn't recorded any more.
func (t *Tape) Play() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.playing.Store(true)
	for _, r := range t.records {
		if differs := func(answer []byte) bool { return !bytes.Equal(answer, r.answers[0]) }; !slices.ContainsFunc(r.answers, differs) {
			r.answers = r.answers[:1]
		}
	}
}

// Err returns what went wrong first, nil when all that was written had been recorded. It is what to look at after a
// measurement: a client may have tried again and thereby hidden an error.
func (t *Tape) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Served returns how many exchanges have been played: the number of round trips, where a pipeline counts its Syncs.
func (t *Tape) Served() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.served.Load()
	for conn := range t.conns {
		n += conn.served.Load()
	}
	return n
}

// Excuse keeps what contains text out of [Tape.Err] when it wasn't recorded: a client that asks something in the background,
// now and then, and goes on without an answer. It still gets an error.
func (t *Tape) Excuse(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.excused = text
}

// keep stores an exchange.
func (t *Tape) keep(key uint64, answer []byte, after uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.playing.Load() {
		return
	}
	r, ok := t.records[key]
	if !ok {
		r = &record{after: after}
		t.records[key] = r
	}
	r.answers = append(r.answers, answer)
}

func (t *Tape) fail(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return err
}

// unknown is the error of an exchange that wasn't recorded.
func (t *Tape) unknown(written []byte) error {
	t.mu.Lock()
	what, excused := describe(written, t.names), t.excused
	t.mu.Unlock()
	err := fmt.Errorf("replay: this hasn't been recorded:%s", what)
	if excused != "" && strings.Contains(what, excused) {
		return err
	}
	return t.fail(err)
}
