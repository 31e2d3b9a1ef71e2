package health_test

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a database handle and the server and makes the network fail.
type proxy struct {
	address string
	port    int
	socket  string // of the server
	work    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	pairs    map[*pair]struct{}
	kills    bool // accept, then close
	silent   bool // accept, then forward nothing
	dies     bool // end a connection that carries a monitor's question
}

// pair is a connection and its continuation.
type pair struct {
	client, server net.Conn
	thaw           chan struct{} // closed while data flows
}

func newProxy(tb testing.TB) *proxy {
	tb.Helper()
	address, err := url.Parse(server.URL())
	require.NoError(tb, err)
	port := address.Query().Get("port")
	if port == "" {
		port = "5432"
	}
	p := &proxy{address: "127.0.0.1:0", pairs: make(map[*pair]struct{})}
	p.socket = filepath.Join(address.Query().Get("host"), ".s.PGSQL."+port)
	p.accept(tb)
	_, text, err := net.SplitHostPort(p.address)
	require.NoError(tb, err)
	p.port, err = strconv.Atoi(text)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		p.refuse()
		p.work.Wait()
	})
	return p
}

// accept listens, again at the same port when it has before.
func (p *proxy) accept(tb testing.TB) {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.address)
	require.NoError(tb, err)
	p.mu.Lock()
	p.listener, p.address = listener, listener.Addr().String()
	p.mu.Unlock()
	p.work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(client) })
		}
	})
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	upstream, err := (&net.Dialer{}).DialContext(context.Background(), "unix", p.socket)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	c := &pair{client: client, server: upstream, thaw: make(chan struct{})}
	p.mu.Lock()
	if p.kills {
		p.mu.Unlock()
		return
	}
	if !p.silent {
		close(c.thaw)
	}
	p.pairs[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pairs, c)
		p.mu.Unlock()
	}()
	var copying sync.WaitGroup
	copying.Go(func() { p.copy(c, c.server, c.client) })
	copying.Go(func() { p.copy(c, c.client, c.server) })
	copying.Wait()
}

// copy forwards one direction. What arrives while the pair is frozen waits, and so does the end of the connection.
func (p *proxy) copy(c *pair, to, from net.Conn) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		thaw, dies := c.thaw, p.dies
		p.mu.Unlock()
		<-thaw
		if dies && bytes.Contains(buffer[:n], []byte("pg_is_in_recovery")) {
			_ = c.client.Close()
			_ = c.server.Close()
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// count returns how many connections there are.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pairs)
}

// freeze makes nothing pass any more on the connections that exist, without closing them; new ones work. With all, new ones
// are accepted and get no answer either.
func (p *proxy) freeze(all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = all
	for c := range p.pairs {
		select {
		case <-c.thaw:
			c.thaw = make(chan struct{})
		default:
		}
	}
}

// thaw lets everything pass again.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.kills = false, false
	for c := range p.pairs {
		select {
		case <-c.thaw:
		default:
			close(c.thaw)
		}
	}
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		_ = c.client.Close()
		_ = c.server.Close()
		select {
		case <-c.thaw:
		default:
			close(c.thaw)
		}
	}
}

// kill closes all connections and from now on every new one as soon as it is there.
func (p *proxy) kill() {
	p.mu.Lock()
	p.kills = true
	p.mu.Unlock()
	p.cut()
}

// die makes every connection end that carries a monitor's question from now on.
func (p *proxy) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dies = true
}

// refuse stops listening and closes all connections, as the end of a server does.
func (p *proxy) refuse() {
	p.close()
	p.cut()
}

// close stops listening; what is connected stays so.
func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.listener.Close()
}
