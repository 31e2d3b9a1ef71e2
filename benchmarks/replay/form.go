package replay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
)

// Messages of the frontend (PostgreSQL manual, "Message Formats").
const (
	msgBind      = 'B'
	msgClose     = 'C'
	msgCopyData  = 'd'
	msgCopyDone  = 'c'
	msgCopyFail  = 'f'
	msgDescribe  = 'D'
	msgExecute   = 'E'
	msgParse     = 'P'
	msgPassword  = 'p'
	msgQuery     = 'Q'
	msgSync      = 'S'
	msgTerminate = 'X'
)

// header is a message's type and its length, which counts itself but not the type.
const header = 5

var (
	errMalformed = errors.New("replay: the client has written a malformed message")
	errPassword  = errors.New("replay: the server asks for a password; record with one that trusts the client")
)

// form follows what one client writes and reduces each exchange to a number. An exchange is what the client writes until the
// server is sure to answer completely: up to a Sync, a simple statement, the end of a COPY's data, or the start of the
// connection. It allocates nothing but for messages that come in pieces.
type form struct {
	seed    maphash.Seed
	sum     uint64
	started bool   // the first message, which has no type, has been seen
	copying bool   // the last message was data of a COPY
	pieces  []byte // the beginning of a message whose end hasn't been written yet
}

// next reads up to the end of an exchange, and returns what is behind it and the exchange's number. ended is false when p
// has no more ends.
func (f *form) next(p []byte) (rest []byte, sum uint64, ended bool, err error) {
	for len(p) > 0 {
		var msg []byte
		if len(f.pieces) > 0 {
			n := f.missing(f.pieces)
			n = min(n, len(p))
			f.pieces = append(f.pieces, p[:n]...)
			p = p[n:]
			if f.missing(f.pieces) > 0 {
				continue
			}
			msg, f.pieces = f.pieces, f.pieces[:0]
		} else {
			if f.missing(p) > 0 {
				f.pieces = append(f.pieces, p...)
				return nil, 0, false, nil
			}
			msg = p[:f.size(p)]
			p = p[len(msg):]
		}
		ended, err := f.add(msg)
		if err != nil {
			return nil, 0, false, err
		}
		if ended {
			sum, f.sum = f.sum, 0
			return p, sum, true, nil
		}
	}
	return nil, 0, false, nil
}

// missing returns how many bytes more it takes to know a message's length or, when that is known, to have all of it.
func (f *form) missing(p []byte) int {
	head := header
	if !f.started {
		head--
	}
	if len(p) < head {
		return head - len(p)
	}
	return max(0, f.size(p)-len(p))
}

// size returns the length of the message that p, with a complete header, begins with.
func (f *form) size(p []byte) int {
	if !f.started {
		return max(8, int(binary.BigEndian.Uint32(p)))
	}
	return max(header, 1+int(binary.BigEndian.Uint32(p[1:])))
}

// add takes one message in and reports whether it ends an exchange.
func (f *form) add(msg []byte) (ended bool, err error) {
	if !f.started {
		f.started = true
		f.start(msg)
		return true, nil
	}
	kind, body := msg[0], msg[header:]
	if kind == msgCopyData {
		if !f.copying {
			f.copying = true
			f.mix(uint64(kind))
		}
		return false, nil
	}
	f.copying = false
	switch kind {
	case msgTerminate:
		return false, nil
	case msgBind:
		f.mix(uint64(kind))
		return false, f.bind(body)
	case msgParse, msgDescribe, msgExecute, msgClose, msgQuery:
		f.mix(uint64(kind))
		f.mix(maphash.Bytes(f.seed, body))
		return kind == msgQuery, nil
	case msgSync, msgCopyDone, msgCopyFail:
		f.mix(uint64(kind))
		return true, nil
	case msgPassword:
		return false, errPassword
	default:
		return false, fmt.Errorf("replay: the client has written a message of type %q, which a tape can't answer", kind)
	}
}

// start takes in the message that starts a connection: its parameters come in any order.
func (f *form) start(msg []byte) {
	params := msg[8:]
	sum := maphash.Bytes(f.seed, msg[:8])
	for len(params) > 1 {
		end := bytes.IndexByte(params, 0) + 1
		end += bytes.IndexByte(params[end:], 0) + 1
		if end == 0 {
			end = len(params)
		}
		sum += maphash.Bytes(f.seed, params[:end])
		params = params[end:]
	}
	f.mix(sum)
}

// bind takes in the form of a Bind message: the names of the portal and the statement, the formats and number of the
// arguments, and the formats of the results, but not the arguments.
func (f *form) bind(body []byte) error {
	names := bytes.IndexByte(body, 0) + 1
	names += bytes.IndexByte(body[names:], 0) + 1
	f.mix(maphash.Bytes(f.seed, body[:names]))
	body = body[names:]
	if len(body) < 2 {
		return errMalformed
	}
	formats := 2 + 2*int(binary.BigEndian.Uint16(body))
	if len(body) < formats+2 {
		return errMalformed
	}
	f.mix(maphash.Bytes(f.seed, body[:formats+2]))
	args := int(binary.BigEndian.Uint16(body[formats:]))
	body = body[formats+2:]
	for range args {
		if len(body) < 4 {
			return errMalformed
		}
		size := max(0, int(int32(binary.BigEndian.Uint32(body)))) //nolint:gosec // -1 is NULL
		if len(body) < 4+size {
			return errMalformed
		}
		body = body[4+size:]
	}
	f.mix(maphash.Bytes(f.seed, body))
	return nil
}

func (f *form) mix(x uint64) { f.sum = mix(f.sum, x) }

func mix(sum, x uint64) uint64 {
	sum = (sum ^ x) * 0x9e3779b97f4a7c15
	return sum ^ sum>>32
}

// describe tells a person what has been written. names has the texts of the statements that were prepared.
func describe(written []byte, names map[string]string) string {
	var b strings.Builder
	for len(written) >= header {
		size := 1 + int(binary.BigEndian.Uint32(written[1:]))
		if size < header || size > len(written) {
			break
		}
		kind, body := written[0], written[header:size]
		written = written[size:]
		text := ""
		switch kind {
		case msgQuery:
			text = cstring(body)
		case msgParse:
			text = cstring(body[min(len(body), len(cstring(body))+1):])
		case msgBind:
			text = cstring(body[min(len(body), len(cstring(body))+1):])
			if sql, ok := names[text]; ok {
				text = sql
			}
		case msgDescribe, msgClose:
			text = cstring(body[min(len(body), 1):])
			if sql, ok := names[text]; ok {
				text = sql
			}
		}
		b.WriteString(" " + string(kind))
		if text != "" {
			b.WriteString("(" + shorten(text) + ")")
		}
		if b.Len() > 1000 {
			b.WriteString(" …")
			break
		}
	}
	if b.Len() == 0 {
		return " the start of a connection, or a part of a message"
	}
	return b.String()
}

func cstring(p []byte) string {
	s, _, _ := bytes.Cut(p, []byte{0})
	return string(s)
}

func shorten(s string) string {
	const longest = 200
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strconv.Quote(s)
}
