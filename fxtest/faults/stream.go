package faults

import (
	"errors"
	"io"
	"net"
	"time"
)

const (
	chunkSize = 32 << 10
	// chunkQueue is the number of chunks that a direction buffers before its sender blocks.
	chunkQueue = 64
	// writesPerSecond is the number of writes per second into which a limited bandwidth is divided.
	writesPerSecond = 50
)

// chunk is the result of one read.
type chunk struct {
	data []byte
	at   time.Time
}

// stream is one direction of a connection. Its reader and writer run in separate goroutines, so latency does not limit the
// bandwidth.
type stream struct {
	conn      *proxiedConn
	direction Direction
	chunks    chan chunk
	// readErr is the error that ended the source. It is set before chunks is closed.
	readErr error

	// The following fields belong to the writer.
	scan     scanner
	frontend frontend
	nextSend time.Time   // when the bandwidth allows the next byte
	budget   *byteBudget // the budget that remaining belongs to
	// remaining is the number of bytes until the connection is reset.
	remaining int
}

func (s *stream) read(from net.Conn) {
	defer close(s.chunks)
	for {
		buffer := make([]byte, chunkSize)
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case s.chunks <- chunk{data: buffer[:n:n], at: time.Now()}:
			case <-s.conn.done:
				return
			}
		}
		if err != nil {
			s.readErr = err
			if s.direction == ToServer {
				s.conn.setClientClosed()
			}
			return
		}
	}
}

// write forwards the chunks and then the end of the stream. It resets the connection on failure.
func (s *stream) write(to net.Conn) {
	last := time.Now()
	for next := range s.chunks {
		last = next.at
		if !s.await(next.at) || !s.forward(next, to) {
			s.conn.reset()
			return
		}
	}
	if !s.await(last) {
		return
	}
	if _, err := to.Write(s.scan.rest()); err != nil || !errors.Is(s.readErr, io.EOF) {
		s.conn.reset()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		s.conn.reset()
	}
}

// await waits until data received at the given time may be forwarded. It returns false if the connection has ended.
func (s *stream) await(received time.Time) bool {
	p := s.conn.proxy
	for {
		p.mu.Lock()
		paused, changed := s.conn.paused || s.conn.blackHoled, p.changed
		due := received.Add(p.faults.latency)
		if p.faults.bandwidth > 0 && s.nextSend.After(due) {
			due = s.nextSend
		}
		p.mu.Unlock()
		var timer <-chan time.Time
		if !paused {
			wait := time.Until(due)
			if wait <= 0 {
				return !s.ended()
			}
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-changed:
		case <-s.conn.done:
			return false
		}
	}
}

func (s *stream) ended() bool {
	select {
	case <-s.conn.done:
		return true
	default:
		return false
	}
}

// forward writes a chunk as far as the faults allow. It returns false if the connection must be reset.
func (s *stream) forward(next chunk, to net.Conn) bool {
	data, act := s.inspect(next.data)
	for len(data) > 0 {
		if !s.await(next.at) {
			return false
		}
		n, exhausted := s.allow(len(data))
		if _, err := to.Write(data[:n]); err != nil || exhausted {
			return false
		}
		data = data[n:]
	}
	switch act {
	case dropAndReset, forwardThenReset:
		return false
	case dropAndPause:
		s.await(next.at) // returns when the connection has ended
		return false
	case dropAndResetClient:
		reset(s.conn.client)
		<-s.conn.done
		return false
	case forward:
	}
	return true
}

// allow returns how many of n bytes may be written now. exhausted reports whether the connection must be reset after them.
func (s *stream) allow(n int) (allowed int, exhausted bool) {
	p := s.conn.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if budget := p.faults.resetAfter[s.direction]; budget != s.budget {
		s.budget = budget
		if budget != nil {
			s.remaining = budget.bytes
		}
	}
	bandwidth := p.faults.bandwidth
	if bandwidth > 0 {
		n = min(n, max(1, bandwidth/writesPerSecond))
	}
	if s.budget != nil {
		n = min(n, s.remaining)
		s.remaining -= n
		exhausted = s.remaining == 0
	}
	if bandwidth > 0 {
		now := time.Now()
		if s.nextSend.Before(now) {
			s.nextSend = now
		}
		s.nextSend = s.nextSend.Add(time.Duration(n) * time.Second / time.Duration(bandwidth))
	}
	return n, exhausted
}

// inspect scans data for messages that faults depend on. It returns the part to forward and what to do afterwards.
func (s *stream) inspect(data []byte) ([]byte, action) {
	if s.direction == ToClient {
		if handled, encrypted := s.conn.encryptionReply(data[0]); handled {
			s.scan.opaque = encrypted
			return data, forward
		}
	}
	wasOpaque := s.scan.opaque
	data, act := s.scan.feed(data, func(kind byte, body []byte) action {
		if s.direction == ToServer {
			return s.conn.clientMessage(kind, body, &s.frontend)
		}
		return s.conn.serverMessage(kind, body)
	})
	if s.scan.opaque && !wasOpaque {
		s.conn.setEncrypted()
	}
	return data, act
}
