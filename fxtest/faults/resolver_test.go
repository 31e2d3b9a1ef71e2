package faults_test

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestResolver_UnknownHost(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	execute(t, direct, "insert into entries values (1)")
	resolver := faults.NewResolver(t, "db.test", proxy.URL())
	config, err := pgxpool.ParseConfig(resolver.URL())
	require.NoError(t, err)
	config.BeforeConnect = resolver.BeforeConnect
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, pool.Ping(t.Context()))
	assert.Equal(t, 1, proxy.Accepted())

	resolver.Point("")
	pool.Reset()
	var unknown *net.DNSError
	require.ErrorAs(t, pool.Ping(t.Context()), &unknown)
	assert.True(t, unknown.IsNotFound)

	config = config.Copy()
	config.ConnConfig.Host, config.ConnConfig.LookupFunc = "another.test", func(context.Context, string) ([]string, error) {
		return []string{"192.0.2.1"}, nil
	}
	require.NoError(t, resolver.BeforeConnect(t.Context(), config.ConnConfig))
	found, err := config.ConnConfig.LookupFunc(t.Context(), "another.test")
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.1"}, found, "other names are resolved as before")

	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewResolver(tb, "db.test", "postgres://me:secret@/x?host=/run") })
	assert.Equal(t, []string{"faults: resolver: the server's URL must have a host and a port"}, messages)
}
