package pgfx

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// socket is the net.Conn of one connection, below TLS. It holds the state of this connection alone. The functions of its
// configuration are shared with the connections that the application opens with a copy of that.
type socket struct {
	net.Conn

	// noRequest reports that pgx must not send a cancel request when it closes the connection. Either a request has been sent, or
	// the connection broke. For each of them pgx would dial, and wait for up to 15 s for a server that does not
	// respond.
	noRequest atomic.Bool
	wire      *wire // nil until the login begins
}

// NetConn returns the connection below, as that of tls.Conn does.
func (s *socket) NetConn() net.Conn { return s.Conn }

// Read notes that the connection broke.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.noRequest.Store(true)
	}
	return n, err //nolint:wrapcheck // a net.Conn returns the error as it is
}

// noRequestNetwork is the network of the address to which pgx must not send a cancel request.
const noRequestNetwork = "rdsfx-no-request"

// errNoRequest is the error of a cancel request that pgx must not send.
var errNoRequest = errors.New("pgfx: the connection needs no cancel request")

// noRequestAddr is an address to which the dial function of a connection does not connect.
type noRequestAddr struct{ net.Addr }

func (noRequestAddr) Network() string { return noRequestNetwork }

// RemoteAddr returns the server's address, to which pgx sends cancel requests.
func (s *socket) RemoteAddr() net.Addr {
	if s.noRequest.Load() {
		return noRequestAddr{s.Conn.RemoteAddr()}
	}
	return s.Conn.RemoteAddr()
}

// socketOf returns the socket below TLS and other wrappers. It returns nil if there is none, because an application may replace the
// dial function in a copy of a configuration.
func socketOf(conn any) *socket {
	for {
		if s, ok := conn.(*socket); ok {
			return s
		}
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = inner.NetConn()
	}
}

// ownRequest is the context key of the socket whose canceler sends a cancel request.
type ownRequest struct{}

// attempt is one attempt to connect. pgx may dial several times for it: several addresses, each with TLS and without.
type attempt struct {
	failed map[string]error // by address that could not be dialed
}

// attemptKey is the context key of an attempt.
type attemptKey struct{}

// withAttempt returns the context of one attempt to connect.
func withAttempt(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, &attempt{failed: map[string]error{}})
}

// addSocket makes the connections that are opened with cc use sockets. With sslmode=prefer pgx dials an address again, without TLS, if
// the first attempt fails. If no TCP connection could be opened, that is useless, so the second dial fails at once.
func addSocket(cc *pgx.ConnConfig) {
	dial := cc.DialFunc
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == noRequestNetwork {
			return nil, errNoRequest
		}
		if canceled, ok := ctx.Value(ownRequest{}).(*socket); ok && canceled != nil {
			canceled.noRequest.Store(true)
		}
		current, _ := ctx.Value(attemptKey{}).(*attempt)
		if current != nil && current.failed[address] != nil {
			return nil, current.failed[address]
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			if current != nil {
				current.failed[address] = err
			}
			return nil, err
		}
		return &socket{Conn: conn}, nil
	}
}
