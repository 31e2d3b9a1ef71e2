package pgfx

import (
	"encoding/binary"
	"io"
	"sync/atomic"
)

// wire observes the messages of one connection. The server is busy from a message of the client until it reports that it is
// ready for the next query (PostgreSQL manual, "Message Flow"). Notifications and notices may arrive while it is not busy.
//
// The messages of COPY are the exception. If a COPY has failed, the server is ready at once and ignores them.
type wire struct {
	r    io.Reader
	w    io.Writer
	busy atomic.Bool

	// The message that is being received.
	header    [5]byte // type and length
	headerLen int
	bodyLen   int // bytes of the body that have not arrived yet
}

const (
	lengthSize    = 4   // the length of a message counts itself
	readyForQuery = 'Z' // the type of the message
)

// Write sends messages to the server.
func (w *wire) Write(p []byte) (int, error) {
	if len(p) > 0 && !isCopyMessage(p[0]) {
		w.busy.Store(true)
	}
	return w.w.Write(p)
}

// isCopyMessage reports whether a message of this type belongs to a COPY that was begun before: CopyData, CopyDone or CopyFail.
func isCopyMessage(kind byte) bool { return kind == 'd' || kind == 'c' || kind == 'f' }

// Read receives messages from the server.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.received(p[:n])
	return n, err
}

// received follows the boundaries of messages.
func (w *wire) received(p []byte) {
	for len(p) > 0 {
		if w.bodyLen > 0 {
			n := min(w.bodyLen, len(p))
			w.bodyLen, p = w.bodyLen-n, p[n:]
			continue
		}
		n := copy(w.header[w.headerLen:], p)
		w.headerLen, p = w.headerLen+n, p[n:]
		if w.headerLen < len(w.header) {
			return
		}
		w.headerLen, w.bodyLen = 0, int(binary.BigEndian.Uint32(w.header[1:]))-lengthSize
		if w.header[0] == readyForQuery {
			w.busy.Store(false)
		}
	}
}
