package health_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// waiting runs a statement on a separate connection. It ends when release is called.
func waiting(t *testing.T, config pgfx.Config, db *pgfx.DB) (ended <-chan error, release func()) {
	t.Helper()
	holder, err := db.Connect(t.Context(), "holder")
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.PgConn().Conn().Close() })
	_, err = holder.Exec(t.Context(), "select pg_advisory_lock(1)")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(context.Background(), "select pg_advisory_lock(1)")
		done <- err
	}()
	require.Eventually(t, func() bool {
		var n int
		err := holder.QueryRow(t.Context(), `select count(*) from pg_locks where locktype = 'advisory' and not granted
			and database = (select oid from pg_database where datname = current_database())`).Scan(&n)
		return err == nil && n == 1
	}, waitLimit, 1e6)
	return done, func() {
		exec(t, urlOf(config), "select pg_terminate_backend("+strconv.FormatUint(uint64(holder.PgConn().PID()), 10)+")")
	}
}

func TestMonitor_AbandonsOnlyUnreceivedStatements(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	config := newConfig(t, maxConns(2))
	direct := config
	viaProxy(p)(&config)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	working, release := waiting(t, direct, db)

	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	p.freeze(false)
	_, err = conn.Exec(context.Background(), "select 1")
	require.Error(t, err, "the context has no deadline")
	assert.Equal(t, pgfx.CauseKilled, pgfx.CauseOf(err))
	conn.Release()
	awaitStatus(t, monitor, func(s health.Status) bool { return s.LastReset == health.ResetSuspect }) // the status changes after the reset
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, working)

	p.Heal()
	release()
	require.NoError(t, <-working)
	assert.Empty(t, transitions)
}

func TestMonitor_SlowStatementOnlyCausesProbe(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	lastProbe := monitor.Status().LastProbe.At
	working, release := waiting(t, config, db)
	status := awaitStatus(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(lastProbe) })
	assert.Equal(t, health.Up, status.State)
	assert.Zero(t, status.Resets)
	release()
	require.NoError(t, <-working)
	assert.Empty(t, transitions)
}

func TestMonitor_AbandonsStatementWithLostResponse(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems cannot distinguish a lost response from rows that are read slowly")
	}
	p := newProxy(t)
	config := newConfig(t)
	direct := urlOf(config)
	viaProxy(p)(&config)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	_, transitions := startMonitor(t, db)
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "create table written ()")
	require.NoError(t, err)
	p.BlackHoleCommitAck()
	ended := make(chan error, 1)
	go func() { ended <- tx.Commit(context.Background()) }()
	require.Eventually(t, func() bool { return len(db.Internals().StalledStatements(time.Millisecond)) == 1 }, waitLimit, time.Millisecond)
	require.Eventually(t, func() bool { return tableExists(t, direct, "written") }, waitLimit, time.Millisecond) // the server has committed
	p.freeze(false)
	require.Error(t, <-ended, "the context has no deadline")
	assert.Empty(t, transitions)
}

// tableExists reports whether another session sees a table.
func tableExists(t *testing.T, url, table string) (exists bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.Background())) }()
	require.NoError(t, conn.QueryRow(t.Context(), "select to_regclass($1) is not null", table).Scan(&exists))
	return exists
}
