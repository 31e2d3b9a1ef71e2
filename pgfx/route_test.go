package pgfx_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// errNotDialed ends an attempt to connect before it dials.
var errNotDialed = errors.New("not dialed")

// routed returns the configuration with which a DB would connect.
func routed(t *testing.T, config pgfx.Config, route pgfx.RouteFunc) *pgx.ConnConfig {
	t.Helper()
	var seen *pgx.ConnConfig
	db, err := pgfx.Open(config, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		seen = cc
		return errNotDialed
	}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	db.Internals().RouteConnections(route)
	_, err = db.Connect(t.Context(), "test")
	require.ErrorIs(t, err, errNotDialed)
	return seen
}

func TestRouteConnections_ReplacesHosts(t *testing.T) {
	t.Parallel()
	type attempt struct {
		host       string
		port       uint16
		serverName string // of TLS; "-" without TLS
	}
	toInstances := func(host string, port uint16) []pgfx.Address {
		if host != "writer.test" || port != 5432 {
			return nil
		}
		return []pgfx.Address{{Host: "a.test"}, {Host: "b.test", Port: 5433}}
	}
	for name, test := range map[string]struct {
		config pgfx.Config
		want   []attempt
	}{
		"the server name of TLS follows": {
			pgfx.Config{URL: "postgres://app@writer.test:5432/app?sslmode=verify-full"},
			[]attempt{{"a.test", 5432, "a.test"}, {"b.test", 5433, "b.test"}},
		},
		"a configured server name stays": {
			pgfx.Config{URL: "postgres://app@writer.test:5432/app?sslmode=verify-full", TLS: pgfx.TLSConfig{ServerName: "db.test"}},
			[]attempt{{"a.test", 5432, "db.test"}, {"b.test", 5433, "db.test"}},
		},
		"each address is tried with and without TLS": {
			pgfx.Config{URL: "postgres://app@writer.test:5432/app?sslmode=prefer"},
			[]attempt{{"a.test", 5432, "a.test"}, {"a.test", 5432, "-"}, {"b.test", 5433, "b.test"}, {"b.test", 5433, "-"}},
		},
		"other hosts stay": {
			pgfx.Config{URL: "postgres://app@other.test:5432,writer.test:5432/app?sslmode=disable"},
			[]attempt{{"other.test", 5432, "-"}, {"a.test", 5432, "-"}, {"b.test", 5433, "-"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc := routed(t, test.config, toInstances)
			first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
			var attempts []attempt
			for _, f := range append([]*pgconn.FallbackConfig{first}, cc.Fallbacks...) {
				serverName := "-"
				if f.TLSConfig != nil {
					serverName = f.TLSConfig.ServerName
				}
				attempts = append(attempts, attempt{f.Host, f.Port, serverName})
			}
			assert.Equal(t, test.want, attempts)
		})
	}
}

func TestRouteConnections_WithoutAddressesKeepsTheHost(t *testing.T) {
	t.Parallel()
	none := func(string, uint16) []pgfx.Address { return []pgfx.Address{} }
	cc := routed(t, pgfx.Config{URL: "postgres://app@writer.test:5432/app?sslmode=disable"}, none)
	assert.Equal(t, "writer.test", cc.Host)
}

func TestRouteConnections_SubstitutesAddresses(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	resolver := faults.NewResolver(t, "writer.test", server.URL())
	address, err := url.Parse(server.URL())
	require.NoError(t, err)
	resolver.Point("")
	db, err := pgfx.Open(pgfx.Config{URL: resolver.URL()}, resolver.Option())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	_, err = db.Connect(t.Context(), "test")
	require.ErrorContains(t, err, "no such host")
	db.Internals().RouteConnections(func(name string, _ uint16) []pgfx.Address {
		return []pgfx.Address{{Host: name, IPs: []string{address.Host}}}
	})
	conn, err := db.Connect(t.Context(), "test")
	require.NoError(t, err, "the address is used without resolving the name")
	require.NoError(t, conn.Close(t.Context()))
	db.Internals().RouteConnections(nil)
	_, err = db.Connect(t.Context(), "test")
	require.ErrorContains(t, err, "no such host")
}
