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

// Tape records the exchanges of connections that are dialed through it, and then plays them. Create one with [New]. Its methods
// are safe for concurrent use.
type Tape struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	seed    maphash.Seed
	playing atomic.Bool
	served  atomic.Int64 // by closed connections

	mu      sync.Mutex
	records map[uint64]*record // immutable while playing
	names   map[string]string  // texts of prepared statements
	conns   map[*player]struct{}
	err     error
	ignored string
}

// record holds the replies to an exchange, one for each time that it was recorded.
type record struct {
	replies [][]byte
	played  atomic.Uint32
	after   uint64 // transaction state after the exchange
}

// reply returns the next reply to play.
func (r *record) reply() []byte {
	if len(r.replies) == 1 {
		return r.replies[0]
	}
	return r.replies[int(r.played.Add(1)-1)%len(r.replies)]
}

// New returns an empty tape in recording mode. dial opens the connections to record; nil means a [net.Dialer].
func New(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Tape {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &Tape{
		dial: dial, seed: maphash.MakeSeed(),
		records: make(map[uint64]*record), names: make(map[string]string), conns: make(map[*player]struct{}),
	}
}

// Dial has the type of pgconn.Config's DialFunc. While the tape records, it dials the real server with ctx. Afterwards it
// returns a played connection at once.
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

// Play ends the recording. Connections dialed from now on are served from the tape. Open connections keep using the real server
// and are no longer recorded.
func (t *Tape) Play() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.playing.Store(true)
	for _, r := range t.records {
		if differs := func(reply []byte) bool { return !bytes.Equal(reply, r.replies[0]) }; !slices.ContainsFunc(r.replies, differs) {
			r.replies = r.replies[:1]
		}
	}
}

// Err returns the first error, or nil if every played exchange had been recorded. Check it after a measurement: a client may have
// hidden an error by a retry.
func (t *Tape) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Served returns the number of played exchanges, which are the round trips. In a pipeline each Sync counts.
func (t *Tape) Served() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.served.Load()
	for conn := range t.conns {
		n += conn.served.Load()
	}
	return n
}

// IgnoreUnrecorded makes [Tape.Err] ignore unrecorded exchanges that contain text. Use it for background queries of a client that
// tolerates their failure. The client still gets an error.
func (t *Tape) IgnoreUnrecorded(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ignored = text
}

// keep stores an exchange.
func (t *Tape) keep(key uint64, reply []byte, after uint64) {
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
	r.replies = append(r.replies, reply)
}

func (t *Tape) fail(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return err
}

// unknown returns the error of an exchange that was not recorded.
func (t *Tape) unknown(written []byte) error {
	t.mu.Lock()
	what, ignored := describe(written, t.names), t.ignored
	t.mu.Unlock()
	err := fmt.Errorf("replay: exchange not recorded:%s", what)
	if ignored != "" && strings.Contains(what, ignored) {
		return err
	}
	return t.fail(err)
}
