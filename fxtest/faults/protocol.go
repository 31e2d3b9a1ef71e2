package faults

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Constants of the wire protocol (PostgreSQL manual, "Message Formats").
const (
	sslRequest     = 80877103
	gssEncRequest  = 80877104
	startupLimit   = 10000   // longest startup packet that a server accepts
	inspectLimit   = 1 << 16 // longer messages are forwarded without inspection; no COMMIT is that long
	typedHead      = 5       // type and length
	untypedHead    = 8       // length and code
	startupMessage = 0       // used as the type of messages that have none
)

// action determines what happens to a message and to its connection.
type action int

const (
	forward            action = iota
	forwardThenReset          // forward the message, then reset both sides
	dropAndReset              // drop the message, then reset both sides
	dropAndPause              // drop the message and all that follow, and keep the connection open
	dropAndResetClient        // drop the message, reset the client's side and keep the server's side open
)

// scanner finds the messages of one direction in a stream of chunks. Messages that are inspected are buffered until they
// are complete. All other data is forwarded as it arrives.
type scanner struct {
	// types lists the types of the messages to inspect.
	types string
	// untyped is set until the startup message, because messages up to it have no type.
	untyped bool
	// opaque is set if the rest of the stream is encrypted.
	opaque bool

	skip    int
	pending []byte
}

// feed takes the next chunk and returns the data to forward, including data buffered earlier. It calls inspect for each
// message to inspect; body is nil if the message is longer than inspectLimit. After another action than forward, feed must
// not be called again.
func (s *scanner) feed(next []byte, inspect func(kind byte, body []byte) action) ([]byte, action) {
	data := next
	if len(s.pending) > 0 {
		data = slices.Concat(s.pending, next)
		s.pending = nil
	}
	for at := 0; at < len(data); {
		n, act := s.step(data[at:], inspect)
		at += n
		if act != forward {
			return data[:at], act
		}
		if n == 0 {
			s.pending = bytes.Clone(data[at:])
			return data[:at], forward
		}
	}
	return data, forward
}

// step returns how many bytes at the start of rest to forward, or 0 if more data is needed.
func (s *scanner) step(rest []byte, inspect func(kind byte, body []byte) action) (int, action) {
	if s.skip == 0 && !s.opaque {
		kind, head, size := s.header(rest)
		if s.opaque {
			return len(rest), forward
		}
		inspected, short := s.inspects(kind), size <= inspectLimit
		if head == 0 || inspected && short && size > len(rest) {
			return 0, forward
		}
		if inspected {
			var body []byte
			if short {
				body = rest[head:size]
			}
			s.untyped = s.untyped && requestsEncryption(body)
			switch act := inspect(kind, body); act {
			case dropAndReset, dropAndPause, dropAndResetClient:
				return 0, act
			case forwardThenReset:
				return size, act
			case forward:
			}
		}
		s.skip = size
	}
	n := len(rest)
	if !s.opaque {
		n = min(n, s.skip)
		s.skip -= n
	}
	return n, forward
}

func (s *scanner) inspects(kind byte) bool {
	return s.untyped || strings.IndexByte(s.types, kind) >= 0
}

// header parses the head of a message. head is 0 if it is incomplete. size includes the head.
func (s *scanner) header(rest []byte) (kind byte, head, size int) {
	if s.untyped {
		if len(rest) < untypedHead {
			// The length of an untyped message is below 2^24, so another first byte than 0 starts an encrypted session.
			s.opaque = len(rest) > 0 && rest[0] != 0
			return 0, 0, 0
		}
		size = int(binary.BigEndian.Uint32(rest))
		s.opaque = size < untypedHead || size > startupLimit
		return startupMessage, untypedHead - 4, size
	}
	if len(rest) < typedHead {
		return 0, 0, 0
	}
	size = int(binary.BigEndian.Uint32(rest[1:])) + 1
	s.opaque = size < typedHead
	return rest[0], typedHead, size
}

// rest returns the buffered data at the end of the stream.
func (s *scanner) rest() []byte {
	left := s.pending
	s.pending = nil
	return left
}

// requestsEncryption reports whether an untyped message requests encryption. Another untyped message follows it.
func requestsEncryption(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	code := binary.BigEndian.Uint32(body)
	return code == sslRequest || code == gssEncRequest
}

// frontend tracks which prepared statements and portals of a session execute COMMIT. It ignores Close, because a closed
// statement can't be executed until its name is used again.
type frontend struct {
	statements, portals map[string]bool
}

// frontendTypes lists the messages that a frontend needs: Query, Parse, Bind, Execute.
const frontendTypes = "QPBE"

// isCommit processes the next message and reports whether it makes the server commit a transaction block.
func (f *frontend) isCommit(kind byte, body []byte) bool {
	if f.statements == nil {
		f.statements, f.portals = make(map[string]bool), make(map[string]bool)
	}
	first, rest := cString(body)
	second, _ := cString(rest)
	switch kind {
	case 'Q':
		return commits(first)
	case 'P':
		f.statements[first] = commits(second)
	case 'B':
		f.portals[first] = f.statements[second]
	case 'E':
		return f.portals[first]
	}
	return false
}

// cString splits data after a zero-terminated string. Without a zero byte, text is all of data.
func cString(data []byte) (text string, rest []byte) {
	before, rest, _ := bytes.Cut(data, []byte{0})
	return string(before), rest
}

// isCommitTag reports whether the body of a CommandComplete acknowledges a COMMIT. The server replies to a COMMIT of a failed
// transaction with ROLLBACK.
func isCommitTag(body []byte) bool {
	tag, _ := cString(body)
	return tag == "COMMIT"
}
