package replay

import (
	"encoding/binary"
	"net"
	"sync"
)

// Messages of the backend.
const (
	msgCopyInResponse = 'G'
	msgReadyForQuery  = 'Z'
)

// recorder is a connection to a real server that records its exchanges.
type recorder struct {
	net.Conn

	tape *Tape

	mu      sync.Mutex
	digest  digest
	waiting []uint64 // exchanges without a complete reply, in order
	state   uint64
	reply   []byte // to the first of them, so far
	read    int    // parsed bytes of reply
}

func newRecorder(t *Tape, conn net.Conn) *recorder {
	return &recorder{Conn: conn, tape: t, digest: digest{seed: t.seed}}
}

// Write sends p to the server.
func (r *recorder) Write(p []byte) (int, error) {
	if err := r.written(p); err != nil {
		return 0, err
	}
	return r.Conn.Write(p)
}

func (r *recorder) written(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remember(p)
	for len(p) > 0 {
		rest, sum, ended, err := r.digest.next(p)
		if err != nil {
			return r.tape.fail(err)
		}
		if ended {
			r.waiting = append(r.waiting, sum)
		}
		p = rest
	}
	return nil
}

// remember stores the texts of prepared statements, for errors.
func (r *recorder) remember(p []byte) {
	if !r.digest.started || len(r.digest.pieces) > 0 {
		return
	}
	for len(p) >= header {
		size := 1 + int(binary.BigEndian.Uint32(p[1:]))
		if size < header || size > len(p) {
			return
		}
		if p[0] == msgParse {
			name := cstring(p[header:size])
			r.tape.mu.Lock()
			r.tape.names[name] = cstring(p[header+len(name)+1 : size])
			r.tape.mu.Unlock()
		}
		p = p[size:]
	}
}

// Read reads from the server.
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if n > 0 {
		r.received(p[:n])
	}
	return n, err
}

func (r *recorder) received(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reply = append(r.reply, p...)
	for len(r.reply)-r.read >= header {
		msg := r.reply[r.read:]
		size := 1 + int(binary.BigEndian.Uint32(msg[1:]))
		if len(msg) < size {
			return
		}
		r.read += size
		switch msg[0] {
		case msgReadyForQuery:
			r.ended(uint64(msg[header]))
		case msgCopyInResponse:
			if len(r.waiting) > 0 {
				r.ended(r.waiting[0])
			}
		}
	}
}

// ended stores the first exchange with its reply.
func (r *recorder) ended(state uint64) {
	if len(r.waiting) > 0 {
		r.tape.keep(mix(r.waiting[0], r.state), append([]byte(nil), r.reply[:r.read]...), state)
		r.waiting = r.waiting[1:]
	}
	r.state = state
	r.reply, r.read = r.reply[r.read:], 0
}
