package faults_test

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func entries(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, "select count(*) from entries")
}

func TestAClusterFailsOver(t *testing.T) { //nolint:tparallel // the steps of one scenario run in their order
	t.Parallel()
	cluster := faults.NewCluster(t)
	writer, reader := connect(t, cluster.Primary().URL()), connect(t, cluster.Standby().URL())

	execute(t, writer, "create table entries (n int)", "insert into entries values (1)")
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	assert.Equal(t, 1, entries(t, reader), "the standby follows")
	_, err := reader.Exec(t.Context(), "insert into entries values (2)")
	assert.Equal(t, "25006", code(err))

	t.Run("a standby that lags shows what was", func(t *testing.T) {
		cluster.Lag(true)
		execute(t, writer, "insert into entries values (2)")
		ctx, cancel := context.WithTimeout(t.Context(), impatience)
		defer cancel()
		require.ErrorIs(t, cluster.AwaitReplay(ctx), context.DeadlineExceeded)
		assert.Equal(t, 1, entries(t, reader))
		cluster.Lag(false)
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 2, entries(t, reader))
	})
	t.Run("a standby that was detached catches up", func(t *testing.T) {
		cluster.DisconnectStandby(true)
		execute(t, writer, "insert into entries values (3)")
		assert.Equal(t, 2, entries(t, reader))
		cluster.DisconnectStandby(false)
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 3, entries(t, reader))
	})
	t.Run("restarted, both are what they were", func(t *testing.T) {
		cluster.Standby().Restart()
		cluster.Primary().Restart()
		execute(t, connect(t, cluster.Primary().URL()), "insert into entries values (4)")
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 4, entries(t, connect(t, cluster.Standby().URL())))
	})
	t.Run("the name of the writer moves, and what was not sent is lost", func(t *testing.T) {
		name := cluster.Resolver()
		db, err := pgfx.Open(pgfx.Config{URL: name.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}}, name.Option())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close(patiently(t))) })
		require.NoError(t, db.Start(t.Context()))
		insert := func() error {
			_, err := db.Pool().Exec(t.Context(), "insert into entries values (5)")
			return err
		}
		require.NoError(t, insert())
		require.NoError(t, cluster.AwaitReplay(t.Context()))

		cluster.DisconnectStandby(true)
		require.NoError(t, insert())
		cluster.Demote()
		assert.Equal(t, "25006", code(insert()))
		cluster.Promote()
		assert.Equal(t, "25006", code(insert()), "a connection stays where it is")
		name.Point(cluster.Standby().URL())
		cluster.KillPrimary()
		require.NoError(t, insert(), "a connection that was refused a write is looked at before it is used again")
		assert.Equal(t, 6, entries(t, connect(t, cluster.Standby().URL())), "of the two before the failover, one was sent")
	})
	t.Run("a standby that was promoted replays nothing any more", func(t *testing.T) {
		require.EqualError(t, cluster.AwaitReplay(t.Context()), "faults: await replay: the primary: the server is down: Restart it first")
		cluster.Primary().Restart()
		require.EqualError(t, cluster.AwaitReplay(t.Context()), "faults: await replay: the standby has been promoted")
		cluster.Standby().Restart()
		assert.Equal(t, 6, entries(t, connect(t, cluster.Standby().URL())), "it keeps its password")
	})
}

func TestANameMayLeadNowhere(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	execute(t, direct, "insert into entries values (1)")
	name := faults.NewResolver(t, "db.test", proxy.URL())
	config, err := pgxpool.ParseConfig(name.URL())
	require.NoError(t, err)
	config.BeforeConnect = name.BeforeConnect
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, pool.Ping(t.Context()))
	assert.Equal(t, 1, proxy.Accepted())

	name.Point("")
	pool.Reset()
	var unknown *net.DNSError
	require.ErrorAs(t, pool.Ping(t.Context()), &unknown)
	assert.True(t, unknown.IsNotFound)

	config = config.Copy()
	config.ConnConfig.Host, config.ConnConfig.LookupFunc = "another.test", func(context.Context, string) ([]string, error) {
		return []string{"asked"}, nil
	}
	require.NoError(t, name.BeforeConnect(t.Context(), config.ConnConfig))
	found, err := config.ConnConfig.LookupFunc(t.Context(), "another.test")
	require.NoError(t, err)
	assert.Equal(t, []string{"asked"}, found, "other names are somebody else's")

	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewResolver(tb, "db.test", "postgres://me:secret@/x?host=/run") })
	assert.Equal(t, []string{"faults: resolver: the server's address is no URL with a host and a port"}, messages)
}
