package faults

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// What is read of the protocol (PostgreSQL manual, "Message Formats").
const (
	sslRequest     = 80877103
	gssEncRequest  = 80877104
	cancelRequest  = 80877102
	startupLimit   = 10000   // the longest startup packet that a server takes
	lookLimit      = 1 << 16 // no COMMIT is longer; what is passes unseen
	typedHead      = 5       // type and length
	untypedHead    = 8       // length and code
	startupMessage = 0       // stands for the type of a message without one
)

// verdict is what becomes of a message.
type verdict int

const (
	pass      verdict = iota
	cutBefore         // neither the message nor anything behind it is passed on
	cutAfter          // nothing behind the message is passed on
	muteHere          // as cutBefore, but the connection stays open and silent
	holdHere          // as cutBefore, but the other side isn't told
)

// scanner follows the messages of one direction through the pieces in which they arrive. A message that is looked at is held
// back until it is complete; everything else passes as it comes.
type scanner struct {
	// wants lists the types of the messages that are looked at.
	wants string
	// untyped holds until the message that starts the session: those before it have no type.
	untyped bool
	// opaque is set when the rest can't be read, because it is encrypted.
	opaque bool

	skip    int
	pending []byte
}

// feed takes the next piece and returns what may be passed on of it and of what was held back. see judges each message
// that is looked at; its body is nil when it is longer than lookLimit. After another verdict than pass nothing more is fed.
func (s *scanner) feed(piece []byte, see func(kind byte, body []byte) verdict) ([]byte, verdict) {
	data := piece
	if len(s.pending) > 0 {
		data = slices.Concat(s.pending, piece)
		s.pending = nil
	}
	for at := 0; at < len(data); {
		n, v := s.step(data[at:], see)
		at += n
		if v != pass {
			return data[:at], v
		}
		if n == 0 {
			s.pending = bytes.Clone(data[at:])
			return data[:at], pass
		}
	}
	return data, pass
}

// step returns how many bytes at the start of rest may be passed on, 0 when it takes more of them to tell.
func (s *scanner) step(rest []byte, see func(kind byte, body []byte) verdict) (int, verdict) {
	if s.skip == 0 && !s.opaque {
		kind, head, size := s.header(rest)
		if s.opaque {
			return len(rest), pass
		}
		looked, short := s.looksAt(kind), size <= lookLimit
		if head == 0 || looked && short && size > len(rest) {
			return 0, pass
		}
		if looked {
			var body []byte
			if short {
				body = rest[head:size]
			}
			s.untyped = s.untyped && negotiates(body)
			switch v := see(kind, body); v {
			case cutBefore, muteHere, holdHere:
				return 0, v
			case cutAfter:
				return size, v
			case pass:
			}
		}
		s.skip = size
	}
	n := len(rest)
	if !s.opaque {
		n = min(n, s.skip)
		s.skip -= n
	}
	return n, pass
}

func (s *scanner) looksAt(kind byte) bool {
	return s.untyped || strings.IndexByte(s.wants, kind) >= 0
}

// header reads the head of a message; head is 0 when there is not enough of it yet. size counts the head too.
func (s *scanner) header(rest []byte) (kind byte, head, size int) {
	if s.untyped {
		if len(rest) < untypedHead {
			// The first byte of an encrypted session tells already.
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

// rest returns what was held back, when nothing more will come.
func (s *scanner) rest() []byte {
	left := s.pending
	s.pending = nil
	return left
}

// negotiates reports whether a message without a type asks for encryption, so that another one like it follows.
func negotiates(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	code := binary.BigEndian.Uint32(body)
	return code == sslRequest || code == gssEncRequest
}

// frontend knows which statements and portals of a session are a COMMIT. What the client closes stays known until its name is
// used again: it can't be executed.
type frontend struct {
	statements, portals map[string]bool
}

// The types of a client's messages that a frontend looks at: Query, Parse, Bind, Execute.
const frontendTypes = "QPBE"

// isCommit takes the next message and reports whether it makes the server commit a transaction block.
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

// cString reads a zero-terminated string; without a zero byte it is everything.
func cString(data []byte) (text string, rest []byte) {
	before, rest, _ := bytes.Cut(data, []byte{0})
	return string(before), rest
}

// isCommitTag reports whether the body of a CommandComplete acknowledges a COMMIT. A COMMIT that fails is answered with
// ROLLBACK.
func isCommitTag(body []byte) bool {
	tag, _ := cString(body)
	return tag == "COMMIT"
}
