package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy stands between a test's clients and a server, on a TCP port of the loopback interface, and makes the network fail
// on demand. Without a fault it passes everything on. Faults add up, concern the connections that their comments say, and
// last until [Proxy.Heal]. While the server doesn't answer, connections are accepted and reset.
//
// Its methods may be used by several goroutines at once. Those that can fail end the test as t.Fatal does.
type Proxy struct {
	tb      testing.TB
	network string // of the server
	server  string
	url     string
	port    port
	work    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while new connections are refused
	closed   bool
	links    map[*link]struct{}
	accepted int
	faults   faults
	// changed is closed, and replaced, whenever anything of the above or of a link changes.
	changed chan struct{}
}

// NewProxy starts a proxy in front of the server that upstreamURL names, which it reaches by TCP or through a Unix socket.
// At the end of the test it ends, and with it the connections that are left.
func NewProxy(tb testing.TB, upstreamURL string) *Proxy {
	tb.Helper()
	config, err := pgconn.ParseConfig(upstreamURL)
	if err != nil || !isURL(upstreamURL) {
		tb.Fatal("faults: proxy: the server's address is no URL like postgres://user@host:5432/database") // it may hold a password
	}
	p := &Proxy{tb: tb, links: make(map[*link]struct{}), changed: make(chan struct{})}
	p.network, p.server = pgconn.NetworkAddress(config.Host, config.Port)
	if err := p.port.reserve(); err != nil {
		tb.Fatalf("faults: proxy: %v", err)
	}
	tb.Cleanup(p.close)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.listen(); err != nil {
		tb.Fatalf("faults: proxy: %v", err)
	}
	p.url = throughAddress(upstreamURL, p.port.address())
	return p
}

func isURL(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// throughAddress returns the URL with another address.
func throughAddress(upstream, address string) string {
	u, err := url.Parse(upstream)
	if err != nil {
		return "" // pgconn has parsed it
	}
	u.Host = address
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // pgx doesn't read + as a blank
	return u.String()
}

// URL returns the server's URL with the proxy's address in place of the server's.
func (p *Proxy) URL() string { return p.url }

// Connections returns how many connections clients have open through the proxy, those that are cut off from the server
// included.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connections()
}

func (p *Proxy) connections() int {
	n := 0
	for l := range p.links {
		if !l.clientGone {
			n++
		}
	}
	return n
}

// Accepted returns how many connections the proxy has accepted so far, those that it killed at once included.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// AwaitConnections waits until clients have exactly n connections open. Its error says how many there are when ctx ends.
func (p *Proxy) AwaitConnections(ctx context.Context, n int) error {
	return p.await(ctx, func() error {
		if open := p.connections(); open != n {
			return fmt.Errorf("faults: proxy: %d connections are open, not %d", open, n)
		}
		return nil
	})
}

// AwaitAccepted waits until at least n connections have been accepted since the proxy was started. Its error says how many
// there were when ctx ends.
func (p *Proxy) AwaitAccepted(ctx context.Context, n int) error {
	return p.await(ctx, func() error {
		if p.accepted < n {
			return fmt.Errorf("faults: proxy: %d connections were accepted, not %d", p.accepted, n)
		}
		return nil
	})
}

// await waits until missing, which is called with the lock held, has nothing more to complain about.
func (p *Proxy) await(ctx context.Context, missing func() error) error {
	for {
		p.mu.Lock()
		err, changed := missing(), p.changed
		p.mu.Unlock()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// change tells everybody who waits that something is different now. The lock must be held.
func (p *Proxy) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// listen begins to accept connections. The lock must be held.
func (p *Proxy) listen() error {
	listener, err := p.port.listen()
	if err != nil {
		return err
	}
	p.listener = listener
	p.work.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has gone again, or there are no descriptors for the moment
		}
		p.welcome(client)
	}
}

func (p *Proxy) welcome(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		reset(client)
		return
	}
	p.accepted++
	defer p.change()
	if p.faults.kill == OnAccept {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, done: make(chan struct{}), held: p.faults.holdNew}
	p.links[l] = struct{}{}
	p.work.Go(l.serve)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.mu.Unlock()
	p.ResetConnections()
	p.work.Wait()
	p.port.free()
}

// reset closes a connection so that the other side gets a RST: what was sent and not read yet is lost (socket(7), SO_LINGER).
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
