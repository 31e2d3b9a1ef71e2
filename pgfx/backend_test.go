package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// giveUp breaks a connection of the pool and returns its backend, as the server describes it.
func giveUp(t *testing.T, db *pgfx.DB) pgfx.Backend {
	t.Helper()
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	var backend pgfx.Backend
	require.NoError(t, conn.QueryRow(t.Context(), `select pid, (extract(epoch from backend_start) * 1000000)::bigint
		from pg_stat_activity where pid = pg_backend_pid()`).Scan(&backend.PID, &backend.Started))
	require.NoError(t, conn.Conn().PgConn().Conn().Close())
	_, err = conn.Exec(t.Context(), "select 1")
	require.Error(t, err)
	conn.Release()
	return backend
}

// destroyed waits until the pool has no connection.
func destroyed(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool { return pool.Stat().TotalConns() == 0 }, eventually, tick)
}

func TestOrphans_AreBackendsOfLostConnections(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	internals := db.Internals()
	assert.False(t, internals.HasOrphans())
	db.Reset()
	destroyed(t, db.Pool())
	assert.False(t, internals.HasOrphans(), "a session that is closed while idle ends by itself")

	first := giveUp(t, db)
	destroyed(t, db.Pool())
	assert.True(t, internals.HasOrphans())
	assert.Equal(t, []pgfx.Backend{first}, internals.Orphans())

	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	second := conn.Conn().PgConn().PID()
	_, err = conn.Exec(t.Context(), "begin")
	require.NoError(t, err)
	conn.Release()
	destroyed(t, db.Pool())
	internals.ForgetOrphans([]pgfx.Backend{first})
	orphans := internals.Orphans()
	require.Len(t, orphans, 1, "released within a transaction")
	assert.Equal(t, second, orphans[0].PID)

	hijacked, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	kept := hijacked.Hijack()
	require.NoError(t, kept.PgConn().Conn().Close())
	require.Error(t, kept.Ping(t.Context()))
	internals.ForgetOrphans(orphans)
	assert.False(t, internals.HasOrphans(), "a hijacked connection is not the pool's")
}

func TestOrphans_AreUnknownBehindPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.PoolerMode{pgfx.PoolerTransaction, pgfx.PoolerDirect} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			pooling := "transaction"
			if mode == pgfx.PoolerDirect {
				pooling = "session"
			}
			pooled := pgBouncerTo(t, server.URL(), newDatabase(t), pooling, 4)
			pooled.Pooler, pooled.Timeouts.Validate = mode, time.Minute
			db := started(t, pooled)
			giveUp(t, db)
			destroyed(t, db.Pool())
			assert.False(t, db.Internals().HasOrphans(), "the process ID is the pooler's")
			var check string
			require.NoError(t, db.Pool().QueryRow(within(t, eventually), "show client_connection_check_interval").Scan(&check))
			assert.Equal(t, "0", check, "sessions of the pooler keep their settings")
		})
	}
}

func TestClientLost_SetsWhenTheServerNoticesALostClient(t *testing.T) {
	t.Parallel()
	settings := func(cfg pgfx.Config) (values [5]string) {
		db := started(t, cfg)
		require.NoError(t, db.Pool().QueryRow(t.Context(), `select current_setting('tcp_keepalives_idle'),
			current_setting('tcp_keepalives_interval'), current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout'),
			current_setting('client_connection_check_interval')`).Scan(&values[0], &values[1], &values[2], &values[3], &values[4]))
		return values
	}
	cfg := serverConfig()
	assert.Equal(t, [5]string{"30", "10", "3", "60000", "10s"}, settings(cfg), "a minute by default")
	cfg.Timeouts.ClientLost = 12 * time.Second
	assert.Equal(t, [5]string{"6", "2", "3", "12000", "2s"}, settings(cfg))
	cfg.URL += "&tcp_keepalives_idle=7"
	assert.Equal(t, [5]string{"7", "2", "3", "12000", "2s"}, settings(cfg), "the URL takes precedence")
	cfg = serverConfig()
	cfg.Timeouts.ClientLost = pgfx.Off
	off := settings(cfg)
	assert.Equal(t, "0", off[4])
	assert.NotEqual(t, "30", off[0])

	session, err := started(t, serverConfig()).Session(t.Context(), "test")
	require.NoError(t, err)
	defer func() { _ = session.Close(context.Background()) }()
	var check string
	require.NoError(t, session.QueryRow(t.Context(), "show client_connection_check_interval").Scan(&check))
	assert.Equal(t, "10s", check, "connections outside the pool, too")
}
