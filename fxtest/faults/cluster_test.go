package faults_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestCluster_FailsOver(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewCluster(t)
	writer, reader := connect(t, cluster.Primary().URL()), connect(t, cluster.Standby().URL())

	execute(t, writer, "create table entries (n int)", "insert into entries values (1)")
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	assert.Equal(t, 1, countEntries(t, reader), "the standby replays")
	_, err := reader.Exec(t.Context(), "insert into entries values (2)")
	assert.Equal(t, "25006", code(err))

	t.Run("reads on a lagging standby return older data", func(t *testing.T) {
		cluster.Lag(true)
		execute(t, writer, "insert into entries values (2)")
		ctx, cancel := context.WithTimeout(t.Context(), quiet)
		defer cancel()
		require.ErrorIs(t, cluster.AwaitReplay(ctx), context.DeadlineExceeded)
		assert.Equal(t, 1, countEntries(t, reader))
		cluster.Lag(false)
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 2, countEntries(t, reader))
	})
	t.Run("a disconnected standby catches up", func(t *testing.T) {
		cluster.DisconnectStandby(true)
		execute(t, writer, "insert into entries values (3)")
		assert.Equal(t, 2, countEntries(t, reader))
		cluster.DisconnectStandby(false)
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 3, countEntries(t, reader))
	})
	t.Run("both servers keep their roles after a restart", func(t *testing.T) {
		cluster.Standby().Restart()
		cluster.Primary().Restart()
		execute(t, connect(t, cluster.Primary().URL()), "insert into entries values (4)")
		require.NoError(t, cluster.AwaitReplay(t.Context()))
		assert.Equal(t, 4, countEntries(t, connect(t, cluster.Standby().URL())))
	})
	t.Run("failover loses commits that were not replicated", func(t *testing.T) {
		resolver := cluster.Resolver()
		db, err := pgfx.Open(pgfx.Config{URL: resolver.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}}, resolver.Option())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close(cleanupContext(t))) })
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
		assert.Equal(t, "25006", code(insert()), "existing connections stay on the old primary")
		resolver.Point(cluster.Standby().URL())
		cluster.KillPrimary()
		require.NoError(t, insert(), "the pool validates a connection after SQLSTATE 25006")
		assert.Equal(t, 6, countEntries(t, connect(t, cluster.Standby().URL())), "one of the two inserts before the failover was replicated")
	})
	t.Run("AwaitReplay fails after a promotion", func(t *testing.T) {
		require.EqualError(t, cluster.AwaitReplay(t.Context()), "faults: await replay: primary: the server is down: call Restart first")
		cluster.Primary().Restart()
		require.EqualError(t, cluster.AwaitReplay(t.Context()), "faults: await replay: the standby has been promoted")
		cluster.Standby().Restart()
		assert.Equal(t, 6, countEntries(t, connect(t, cluster.Standby().URL())), "the password is kept")
	})
}
