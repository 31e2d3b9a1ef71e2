package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy is a TCP proxy between a test's clients and a server that makes the network fail on demand. It listens on the
// loopback interface. Without a fault it forwards everything.
//
// Faults can be combined. Each one documents whether it affects existing connections, new connections or both. Faults for the
// next COMMIT apply once; all others last until [Proxy.Heal].
//
// If the server does not accept a connection, the client's connection is accepted and then reset.
//
// The methods may be called concurrently. Methods that fail end the test, as t.Fatal does.
type Proxy struct {
	tb         testing.TB
	network    string // of the upstream server: tcp or unix
	upstream   string
	url        string
	otherProto bool // the protocol is not PostgreSQL's, so nothing is parsed
	port       port
	goroutines sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while new connections are refused
	closed   bool
	conns    map[*proxiedConn]struct{}
	accepted int
	faults   networkFaults
	// changed is closed and replaced by a new channel when one of the fields above or the state of a connection changes.
	changed chan struct{}
}

// NewProxy starts a proxy in front of the server at upstreamURL, which may listen on TCP or on a Unix socket. The proxy and
// its connections are closed at the end of the test.
func NewProxy(tb testing.TB, upstreamURL string) *Proxy {
	tb.Helper()
	config, err := pgconn.ParseConfig(upstreamURL)
	if err != nil || !isURL(upstreamURL) {
		tb.Fatal("faults: proxy: the upstream address must be a URL like postgres://user@host:5432/database") // err may contain the password
	}
	network, upstream := pgconn.NetworkAddress(config.Host, config.Port)
	p := startProxy(tb, &Proxy{network: network, upstream: upstream})
	p.url = withAddress(upstreamURL, p.port.address())
	return p
}

// NewTCPProxy is like [NewProxy] for a server with another protocol, such as Redis. network is "tcp" or "unix". Faults that need
// PostgreSQL's protocol do not apply: those of COMMIT, and [AfterLogin]. The proxy has no URL; use [Proxy.Address].
func NewTCPProxy(tb testing.TB, network, address string) *Proxy {
	tb.Helper()
	return startProxy(tb, &Proxy{network: network, upstream: address, otherProto: true})
}

func startProxy(tb testing.TB, p *Proxy) *Proxy {
	tb.Helper()
	p.tb, p.conns, p.changed = tb, make(map[*proxiedConn]struct{}), make(chan struct{})
	if err := p.port.reserve(); err != nil {
		tb.Fatalf("faults: proxy: %v", err)
	}
	tb.Cleanup(p.close)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.listenLocked(); err != nil {
		tb.Fatalf("faults: proxy: %v", err)
	}
	return p
}

func isURL(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// withAddress returns the URL with another host and port.
func withAddress(upstreamURL, address string) string {
	u, err := url.Parse(upstreamURL)
	if err != nil {
		return "" // pgconn has already parsed it
	}
	u.Host = address
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.RawQuery = encodeQuery(query)
	return u.String()
}

// encodeQuery encodes blanks as %20, because pgx does not decode "+".
func encodeQuery(query url.Values) string { return strings.ReplaceAll(query.Encode(), "+", "%20") }

// URL returns the upstream URL with the proxy's host and port.
func (p *Proxy) URL() string { return p.url }

// Address returns the proxy's host and port.
func (p *Proxy) Address() string { return p.port.address() }

// Connections returns the number of connections that clients have open, including those in a black hole.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connectionsLocked()
}

func (p *Proxy) connectionsLocked() int {
	n := 0
	for conn := range p.conns {
		if !conn.clientClosed {
			n++
		}
	}
	return n
}

// Accepted returns the number of connections accepted so far, including those that were reset immediately.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// AwaitConnections waits until clients have exactly n connections open. If ctx ends first, it returns an error with the
// current number.
func (p *Proxy) AwaitConnections(ctx context.Context, n int) error {
	return p.await(ctx, func() error {
		if open := p.connectionsLocked(); open != n {
			return fmt.Errorf("faults: proxy: %d connections open, want %d", open, n)
		}
		return nil
	})
}

// AwaitAccepted waits until at least n connections have been accepted since the start of the proxy. If ctx ends first, it
// returns an error with the current number.
func (p *Proxy) AwaitAccepted(ctx context.Context, n int) error {
	return p.await(ctx, func() error {
		if p.accepted < n {
			return fmt.Errorf("faults: proxy: %d connections accepted, want %d", p.accepted, n)
		}
		return nil
	})
}

// await waits until check returns nil. It calls check with p.mu held, initially and after each change.
func (p *Proxy) await(ctx context.Context, check func() error) error {
	for {
		p.mu.Lock()
		err, changed := check(), p.changed
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

// notifyLocked wakes all waiters after a change. The caller must hold p.mu.
func (p *Proxy) notifyLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// listenLocked starts accepting connections. The caller must hold p.mu.
func (p *Proxy) listenLocked() error {
	listener, err := p.port.listen()
	if err != nil {
		return err
	}
	p.listener = listener
	p.goroutines.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	// A test that heals the proxy after fxtest.New passes on the label of its application's goroutines.
	pprof.SetGoroutineLabels(context.Background())
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has closed the connection, or no file descriptor is available
		}
		p.handle(listener, client)
	}
}

func (p *Proxy) handle(listener net.Listener, client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener != listener { // it was accepted just before new connections were refused
		reset(client)
		return
	}
	p.accepted++
	defer p.notifyLocked()
	if p.faults.resetNew == OnAccept {
		reset(client)
		return
	}
	conn := &proxiedConn{proxy: p, client: client, done: make(chan struct{}), paused: p.faults.pauseNew}
	p.conns[conn] = struct{}{}
	p.goroutines.Go(conn.serve)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.mu.Unlock()
	p.ResetConnections()
	p.goroutines.Wait()
	p.port.release()
}

// reset closes a connection with a RST, which discards data that the peer has not read (socket(7), SO_LINGER).
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
