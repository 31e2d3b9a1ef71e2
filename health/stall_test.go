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

// waiting runs a statement that ends when release is called, on a connection of its own.
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
	}, patience, 1e6)
	return done, func() {
		exec(t, urlOf(config), "select pg_terminate_backend("+strconv.FormatUint(uint64(holder.PgConn().PID()), 10)+")")
	}
}

func TestAStatementThatTheServerHasNeverGotIsGivenUpAndOneThatItIsAtWorkOnIsNot(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	config := newConfig(t, maxConns(2))
	direct := config
	through(p)(&config)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	working, release := waiting(t, direct, db)

	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	p.freeze(false)
	_, err = conn.Exec(context.Background(), "select 1")
	require.Error(t, err, "no deadline has passed: there is none")
	assert.Equal(t, pgfx.CauseKilled, pgfx.CauseOf(err))
	conn.Release()
	eventually(t, monitor, func(s health.Status) bool { return s.LastReset == health.ResetSuspect }) // noted after it is done
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, working)

	p.Heal()
	release()
	require.NoError(t, <-working)
	assert.Empty(t, transitions)
}

func TestASlowStatementThatRunsAloneCausesALookAndNothingElse(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	looked := monitor.Status().LastProbe.At
	working, release := waiting(t, config, db)
	status := eventually(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(looked) })
	assert.Equal(t, health.Up, status.State)
	assert.Zero(t, status.Resets)
	release()
	require.NoError(t, <-working)
	assert.Empty(t, transitions)
}

func TestAStatementWhoseAnswerIsLostIsGivenUp(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere it can't be told from rows that are read slowly")
	}
	p := newProxy(t)
	config := newConfig(t)
	direct := urlOf(config)
	through(p)(&config)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	_, transitions := watch(t, db)
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "create table written ()")
	require.NoError(t, err)
	p.BlackHoleCommitAck()
	ended := make(chan error, 1)
	go func() { ended <- tx.Commit(context.Background()) }()
	require.Eventually(t, func() bool { return len(db.Internals().StalledStatements(time.Millisecond)) == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return isThere(t, direct, "written") }, patience, time.Millisecond) // it has been committed
	p.freeze(false)
	require.Error(t, <-ended, "no deadline has passed: there is none")
	assert.Empty(t, transitions)
}

// isThere reports whether a table is there for others.
func isThere(t *testing.T, url, table string) (there bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.Background())) }()
	require.NoError(t, conn.QueryRow(t.Context(), "select to_regclass($1) is not null", table).Scan(&there))
	return there
}
