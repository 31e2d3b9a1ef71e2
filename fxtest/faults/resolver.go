package faults

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Resolver is a host name that leads to one server and later to another, as the DNS name of a cloud endpoint does. Only
// clients that are given its [Resolver.Option] or its [Resolver.BeforeConnect] know the name; connections that exist stay where they are.
//
// Its methods may be used by several goroutines at once.
type Resolver struct {
	tb   testing.TB
	name string
	url  string

	mu     sync.Mutex
	target string // host:port, "" while the name is unknown
}

// NewResolver makes a name that leads to the server that serverURL names, which must listen on TCP; a [Proxy] will do.
func NewResolver(tb testing.TB, name, serverURL string) *Resolver {
	tb.Helper()
	r := &Resolver{tb: tb, name: name}
	r.Point(serverURL)
	u, err := url.Parse(serverURL)
	if err != nil {
		tb.Fatal("faults: resolver: the server's address can't be parsed") // it may hold a password
	}
	u.Host = net.JoinHostPort(name, u.Port())
	r.url = u.String()
	return r
}

// URL returns the address of the first server with the name in place of its host. The servers that the name leads to must
// take the same login.
func (r *Resolver) URL() string { return r.url }

// Point makes the name lead to the server that serverURL names; only its host and port count. With "" the name is unknown.
func (r *Resolver) Point(serverURL string) {
	r.tb.Helper()
	target := ""
	if serverURL != "" {
		u, err := url.Parse(serverURL)
		if err != nil || u.Hostname() == "" || u.Port() == "" {
			r.tb.Fatal("faults: resolver: the server's address is no URL with a host and a port") // it may hold a password
		}
		target = u.Host
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// Option makes a pgfx.DB resolve the name, for all its connections.
func (r *Resolver) Option() pgfx.Option { return pgfx.WithBeforeConnect(r.BeforeConnect) }

// BeforeConnect makes a connection resolve the name: it is what pgxpool.Config.BeforeConnect takes.
func (r *Resolver) BeforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	next := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if !strings.EqualFold(host, r.name) {
			return next(ctx, host)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.target == "" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []string{r.target}, nil // pgx takes a port beside the address
	}
	return nil
}
