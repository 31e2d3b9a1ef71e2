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

// header is the size of a message's type and length. The length counts itself but not the type.
const header = 5

var (
	errMalformed = errors.New("replay: the client sent a malformed message")
	errPassword  = errors.New("replay: the server requires a password; record with a server that trusts the client")
)

// digest parses the messages of one client and hashes each exchange. An exchange ends with the message that makes the server
// reply: a Sync, a simple statement, the end of COPY data, or the startup message. It allocates memory only for messages
// that arrive in pieces.
type digest struct {
	seed    maphash.Seed
	sum     uint64
	started bool   // after the first message, which has no type
	copying bool   // the last message was data of a COPY
	pieces  []byte // the beginning of an incomplete message
}

// next reads up to the end of an exchange, and returns the rest of p and the exchange's hash. ended is false if p does not
// contain the end of an exchange.
func (d *digest) next(p []byte) (rest []byte, sum uint64, ended bool, err error) {
	for len(p) > 0 {
		var msg []byte
		if len(d.pieces) > 0 {
			n := d.missing(d.pieces)
			n = min(n, len(p))
			d.pieces = append(d.pieces, p[:n]...)
			p = p[n:]
			if d.missing(d.pieces) > 0 {
				continue
			}
			msg, d.pieces = d.pieces, d.pieces[:0]
		} else {
			if d.missing(p) > 0 {
				d.pieces = append(d.pieces, p...)
				return nil, 0, false, nil
			}
			msg = p[:d.size(p)]
			p = p[len(msg):]
		}
		ended, err := d.add(msg)
		if err != nil {
			return nil, 0, false, err
		}
		if ended {
			sum, d.sum = d.sum, 0
			return p, sum, true, nil
		}
	}
	return nil, 0, false, nil
}

// missing returns the number of missing bytes of the message's header, or of the message if its header is complete.
func (d *digest) missing(p []byte) int {
	head := header
	if !d.started {
		head--
	}
	if len(p) < head {
		return head - len(p)
	}
	return max(0, d.size(p)-len(p))
}

// size returns the length of the first message in p, whose header must be complete.
func (d *digest) size(p []byte) int {
	if !d.started {
		return max(8, int(binary.BigEndian.Uint32(p)))
	}
	return max(header, 1+int(binary.BigEndian.Uint32(p[1:])))
}

// add hashes one message and reports whether it ends an exchange.
func (d *digest) add(msg []byte) (ended bool, err error) {
	if !d.started {
		d.started = true
		d.start(msg)
		return true, nil
	}
	kind, body := msg[0], msg[header:]
	if kind == msgCopyData {
		if !d.copying {
			d.copying = true
			d.mix(uint64(kind))
		}
		return false, nil
	}
	d.copying = false
	switch kind {
	case msgTerminate:
		return false, nil
	case msgBind:
		d.mix(uint64(kind))
		return false, d.bind(body)
	case msgParse, msgDescribe, msgExecute, msgClose, msgQuery:
		d.mix(uint64(kind))
		d.mix(maphash.Bytes(d.seed, body))
		return kind == msgQuery, nil
	case msgSync, msgCopyDone, msgCopyFail:
		d.mix(uint64(kind))
		return true, nil
	case msgPassword:
		return false, errPassword
	default:
		return false, fmt.Errorf("replay: the client sent a message of type %q, which is not supported", kind)
	}
}

// start hashes the message that starts a connection, whose parameters come in any order.
func (d *digest) start(msg []byte) {
	params := msg[8:]
	sum := maphash.Bytes(d.seed, msg[:8])
	for len(params) > 1 {
		end := bytes.IndexByte(params, 0) + 1
		end += bytes.IndexByte(params[end:], 0) + 1
		if end == 0 {
			end = len(params)
		}
		sum += maphash.Bytes(d.seed, params[:end])
		params = params[end:]
	}
	d.mix(sum)
}

// bind hashes a Bind message without its arguments. The hash includes the names of portal and statement, and the formats of
// arguments and results.
func (d *digest) bind(body []byte) error {
	names := bytes.IndexByte(body, 0) + 1
	names += bytes.IndexByte(body[names:], 0) + 1
	d.mix(maphash.Bytes(d.seed, body[:names]))
	body = body[names:]
	if len(body) < 2 {
		return errMalformed
	}
	formats := 2 + 2*int(binary.BigEndian.Uint16(body))
	if len(body) < formats+2 {
		return errMalformed
	}
	d.mix(maphash.Bytes(d.seed, body[:formats+2]))
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
	d.mix(maphash.Bytes(d.seed, body))
	return nil
}

func (d *digest) mix(x uint64) { d.sum = mix(d.sum, x) }

func mix(sum, x uint64) uint64 {
	sum = (sum ^ x) * 0x9e3779b97f4a7c15
	return sum ^ sum>>32
}

// describe returns a readable form of messages, for errors. names holds the texts of prepared statements by name.
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
		return " the start of a connection, or part of a message"
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
