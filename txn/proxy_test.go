package txn_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// proxy stands between a client and the server and reads the client's messages, so that a fault can be timed to a
// statement.
type proxy struct {
	listener net.Listener
	target   atomic.Pointer[[2]string] // network and address
	// atCommit is asked when a COMMIT passes.
	atCommit atomic.Pointer[func() verdict]
	// answered is called when an answer to COMMIT is about to be lost.
	answered atomic.Pointer[func()]
	// trips counts the round trips that clients have asked for.
	trips atomic.Int64

	mu    sync.Mutex
	pipes map[*pipe]struct{}
	wg    sync.WaitGroup
}

// verdict is what becomes of a COMMIT.
type verdict int

const (
	forward    verdict = iota
	loseAnswer         // the server carries it out; the client's connection ends without the answer
	loseCommit         // it never reaches the server
	mute               // the server carries it out; the client gets no answer and no end
	holdCommit         // it never reaches the server, which doesn't learn either that the client has gone
)

// newProxy starts a proxy in front of the server that all tests share.
func newProxy(tb testing.TB) *proxy {
	tb.Helper()
	return newProxyTo(tb, server.URL())
}

// newProxyTo starts a proxy in front of a server.
func newProxyTo(tb testing.TB, url string) *proxy {
	tb.Helper()
	p := &proxy{pipes: make(map[*pipe]struct{})}
	p.leadTo(tb, url)
	var err error
	p.listener, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		_ = p.listener.Close()
		p.cutAll()
		p.wg.Wait()
	})
	return p
}

// leadTo leads connections that come from now on to a server.
func (p *proxy) leadTo(tb testing.TB, url string) {
	tb.Helper()
	config, err := pgconn.ParseConfig(url)
	require.NoError(tb, err)
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	p.target.Store(&[2]string{network, address})
}

// through leads a configuration through the proxy.
func (p *proxy) through(c *pgfx.Config) {
	address := p.listener.Addr().(*net.TCPAddr)
	c.Host, c.Port, c.TLS.Mode = address.IP.String(), address.Port, pgfx.TLSDisable
}

// onCommit sets what becomes of COMMITs from now on.
func (p *proxy) onCommit(decide func() verdict) { p.atCommit.Store(&decide) }

// afterAnswer sets what happens between the answer to a COMMIT and its loss.
func (p *proxy) afterAnswer(fn func()) { p.answered.Store(&fn) }

// always returns a decision.
func always(v verdict) func() verdict { return func() verdict { return v } }

// once returns a decision for the first COMMIT; later ones pass.
func once(v verdict) func() verdict {
	var done atomic.Bool
	return func() verdict {
		if done.Swap(true) {
			return forward
		}
		return v
	}
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pipe := range p.pipes {
		pipe.cut()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		target := p.target.Load()
		server, err := (&net.Dialer{}).Dial(target[0], target[1])
		if err != nil {
			_ = client.Close()
			continue
		}
		pipe := &pipe{proxy: p, client: client, server: server, released: make(chan struct{})}
		p.mu.Lock()
		p.pipes[pipe] = struct{}{}
		p.mu.Unlock()
		p.wg.Go(pipe.fromClient)
		p.wg.Go(pipe.fromServer)
	}
}

type pipe struct {
	proxy          *proxy
	client, server net.Conn
	verdict        atomic.Int64
	released       chan struct{} // closed when the server has ended the connection
}

func (p *pipe) cut() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// The request codes that come in place of a startup message, and are followed by one.
const (
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

func (p *pipe) fromClient() {
	defer p.cut()
	for started := false; ; {
		message, err := p.read(started)
		if err != nil {
			return
		}
		if !started {
			code := binary.BigEndian.Uint32(message[4:8])
			started = code != sslRequest && code != gssEncRequest
		} else if message[0] == 'Q' && bytes.EqualFold(bytes.TrimRight(message[5:], "\x00"), []byte("commit")) {
			if decide := p.proxy.atCommit.Load(); decide != nil {
				v := (*decide)()
				p.verdict.Store(int64(v))
				switch v {
				case loseCommit:
					return
				case holdCommit:
					_ = p.client.Close()
					<-p.released // by the server, or when the test is over
					return
				case forward, loseAnswer, mute:
				}
			}
		}
		if started && (message[0] == 'Q' || message[0] == 'S') {
			p.proxy.trips.Add(1)
		}
		if _, err := p.server.Write(message); err != nil {
			return
		}
	}
}

// read reads one message of the client.
func (p *pipe) read(started bool) ([]byte, error) {
	head := 4
	if started {
		head = 5
	}
	message := make([]byte, head)
	if _, err := io.ReadFull(p.client, message); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(message[head-4:])-4)
	if _, err := io.ReadFull(p.client, body); err != nil {
		return nil, err
	}
	return slices.Concat(message, body), nil
}

func (p *pipe) fromServer() {
	defer p.forget()
	buffer := make([]byte, 1<<16)
	for {
		n, err := p.server.Read(buffer)
		if err != nil {
			p.cut()
			close(p.released)
			return
		}
		switch verdict(p.verdict.Load()) {
		case loseAnswer:
			if fn := p.proxy.answered.Swap(nil); fn != nil {
				(*fn)()
			}
			p.cut()
			continue
		case mute:
			continue
		case forward, loseCommit, holdCommit:
		}
		if _, err := p.client.Write(buffer[:n]); err != nil {
			p.cut()
		}
	}
}

func (p *pipe) forget() {
	p.proxy.mu.Lock()
	defer p.proxy.mu.Unlock()
	delete(p.proxy.pipes, p)
}
