package health_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// connect opens a connection without a pool.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestMonitor_EndsOrphansThatHoldLocks(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	config := newConfig(t, maxConns(3))
	direct := urlOf(config)
	viaProxy(p)(&config)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	exec(t, direct, "create table counters (id int primary key, n int not null); insert into counters values (1, 0), (2, 0), (3, 0)")
	watcher := connect(t, direct)
	const update = "update counters set n = n + 1 where id = $1"

	stranger := connect(t, direct) // the same login user
	_, err := stranger.Exec(t.Context(), "begin")
	require.NoError(t, err)
	_, err = stranger.Exec(t.Context(), update, 3)
	require.NoError(t, err)
	_, err = stranger.Exec(t.Context(), "select pg_advisory_lock(1)")
	require.NoError(t, err)

	ended := make(chan error, 3)
	idle, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = idle.Exec(t.Context(), update, 1)
	require.NoError(t, err)
	waiting := func(id int) { // the server executes this update once the lock of idle is released
		tx, err := db.Pool().Begin(context.Background())
		if err == nil {
			_, err = tx.Exec(context.Background(), update, id)
		}
		if err == nil {
			_, err = tx.Exec(context.Background(), update, 1)
		}
		_ = tx.Rollback(context.Background()) // releases the connection
		ended <- err
	}
	go waiting(2)
	require.Eventually(t, func() bool {
		var n int
		err := watcher.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n == 1
	}, waitLimit, time.Millisecond)

	p.freeze(false)
	go func() {
		_, err := idle.Exec(context.Background(), "select 1")
		_ = idle.Rollback(context.Background()) // releases the connection
		ended <- err
	}()
	other := connect(t, direct)
	_, err = other.Exec(t.Context(), update, 1)
	require.NoError(t, err, "the lock of the idle transaction is free")
	_, err = other.Exec(t.Context(), update, 2)
	require.NoError(t, err, "the lock of the transaction that waited is free")
	require.Error(t, <-ended, "the contexts have no deadlines")
	require.Error(t, <-ended)
	awaitStatus(t, monitor, func(s health.Status) bool { return s.EndedBackends == 2 })
	_, err = stranger.Exec(t.Context(), "commit")
	require.NoError(t, err, "the other session continues")
	assert.Empty(t, transitions)
	p.Heal()
}

func TestMonitor_EndsOnlyBackendsOfItsPool(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, _ := startMonitor(t, db)
	exec(t, urlOf(config), "create role "+config.Database+" login")
	t.Cleanup(func() { exec(t, server.URL(), "drop role "+config.Database) })

	identify := func(conn *pgx.Conn) pgfx.Backend {
		backend := pgfx.Backend{PID: conn.PgConn().PID()}
		require.NoError(t, conn.QueryRow(t.Context(), `select (extract(epoch from backend_start) * 1000000)::bigint
			from pg_stat_activity where pid = pg_backend_pid()`).Scan(&backend.Started))
		return backend
	}
	end := func(backend pgfx.Backend) int {
		n, err := monitor.EndBackends(t.Context(), backend)
		require.NoError(t, err)
		return n
	}
	alike := connect(t, urlOf(config))
	reused := identify(alike)
	reused.Started--
	assert.Zero(t, end(reused), "the process ID was reused")
	assert.Zero(t, end(identify(connect(t, server.URL()))), "another database")
	assert.Zero(t, end(identify(connect(t, urlOf(config)+"&user="+config.Database))), "another login user")
	require.NoError(t, alike.Ping(t.Context()))
	assert.Equal(t, 1, end(identify(alike)))
	require.Error(t, alike.Ping(t.Context()))
	assert.Zero(t, end(reused), "the backend has ended")
}

// breakConnection breaks a connection of the pool within a transaction.
func breakConnection(t *testing.T, db *pgfx.DB) {
	t.Helper()
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "begin")
	require.NoError(t, err)
	require.NoError(t, conn.Conn().PgConn().Conn().Close())
	_, err = conn.Exec(t.Context(), "select 1")
	require.Error(t, err)
	conn.Release()
}

func TestMonitor_ForgetsOrphansThatHaveEnded(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := startMonitor(t, db)
	breakConnection(t, db)
	require.Eventually(t, func() bool { return !db.Internals().HasOrphans() }, waitLimit, time.Millisecond)
	assert.True(t, monitor.IsHealthy())
	assert.Empty(t, transitions)
}

func TestMonitor_LogsOnceThatItMayNotEndBackends(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	exec(t, urlOf(config), "revoke execute on function pg_terminate_backend(int, bigint) from public; create role "+config.Database+" login")
	t.Cleanup(func() { exec(t, server.URL(), "drop role "+config.Database) })
	config.Username = config.Database
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	core, logs := observer.New(zap.WarnLevel)
	monitor, _ := startMonitor(t, db, health.WithLogger(zap.New(core)))
	refusals := func() int {
		return logs.FilterMessageSnippet("grant execute on function pg_terminate_backend").Len()
	}
	breakConnection(t, db)
	require.Eventually(t, func() bool { return refusals() == 1 }, waitLimit, time.Millisecond)
	for range 3 {
		breakConnection(t, db)
		_, err := monitor.ProbeNow(t.Context())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, refusals())
	assert.Zero(t, monitor.Status().EndedBackends)
}

func TestMonitor_KeepsOrphansAndLogsAnErrorOnce(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	core, logs := observer.New(zap.WarnLevel)
	monitor, _ := startMonitor(t, db, health.WithLogger(zap.New(core)))
	// The server refuses the statement with an error that is not about privileges (42P01).
	const permit = "set allow_system_table_mods = on; alter view pg_catalog."
	exec(t, urlOf(config), permit+"pg_stat_activity rename to renamed")
	breakConnection(t, db)
	for range 3 {
		_, err := monitor.ProbeNow(t.Context())
		require.NoError(t, err)
		require.True(t, db.Internals().HasOrphans())
	}
	failures := logs.FilterMessageSnippet("they keep their locks until that works")
	require.Equal(t, 1, failures.Len())
	assert.Contains(t, failures.All()[0].ContextMap()["error"], "pg_stat_activity")
	exec(t, urlOf(config), permit+"renamed rename to pg_stat_activity")
	require.Eventually(t, func() bool { return !db.Internals().HasOrphans() }, waitLimit, time.Millisecond)
	assert.Equal(t, 1, logs.FilterMessageSnippet("cannot end backends").Len())
}
