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

// Resolver resolves a host name to a server that can be changed, like the DNS name of a cloud endpoint. Only clients with
// its [Resolver.Option] or [Resolver.BeforeConnect] can resolve the name. Existing connections are not affected by a change.
//
// The methods may be called concurrently.
type Resolver struct {
	tb   testing.TB
	name string
	url  string

	mu     sync.Mutex
	target string // host:port, "" for an unknown host
}

// NewResolver resolves name to the server at serverURL, which must listen on TCP. The server may be a [Proxy].
func NewResolver(tb testing.TB, name, serverURL string) *Resolver {
	tb.Helper()
	r := &Resolver{tb: tb, name: name}
	r.Point(serverURL)
	u, err := url.Parse(serverURL)
	if err != nil {
		tb.Fatal("faults: resolver: the server's URL can't be parsed") // err may contain the password
	}
	u.Host = net.JoinHostPort(name, u.Port())
	r.url = u.String()
	return r
}

// URL returns the URL of the first server with the name as its host. All servers must accept the same login.
func (r *Resolver) URL() string { return r.url }

// Point makes the name resolve to the host and port of serverURL. With "", resolving fails with a "no such host" error.
func (r *Resolver) Point(serverURL string) {
	r.tb.Helper()
	target := ""
	if serverURL != "" {
		u, err := url.Parse(serverURL)
		if err != nil || u.Hostname() == "" || u.Port() == "" {
			r.tb.Fatal("faults: resolver: the server's URL must have a host and a port") // err may contain the password
		}
		target = u.Host
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// Option returns the option that makes all connections of a pgfx.DB resolve the name.
func (r *Resolver) Option() pgfx.Option { return pgfx.WithBeforeConnect(r.BeforeConnect) }

// BeforeConnect makes a connection resolve the name. Assign it to pgxpool.Config.BeforeConnect.
func (r *Resolver) BeforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	resolveIn(config, func(host string) (string, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.target, strings.EqualFold(host, r.name)
	})
	return nil
}

// resolveIn makes a connection resolve names with lookup. It returns the address with its port, "" for an unknown host, and whether
// it is responsible for the name.
func resolveIn(config *pgx.ConnConfig, lookup func(host string) (target string, responsible bool)) {
	next := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		target, responsible := lookup(host)
		switch {
		case !responsible:
			return next(ctx, host)
		case target == "":
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []string{target}, nil // pgx accepts an address with a port
	}
}
