package health_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestAStatementThatMeetsTroubleMakesTheMonitorLook(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := watch(t, db)
	looked := monitor.Status().LastProbe.At
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
	require.Error(t, err)
	conn.Release()
	status := eventually(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(looked) })
	assert.Equal(t, health.Up, status.State)
	assert.Empty(t, transitions, "one connection that was ended is no outage")
}

func TestWritesThatAreRefusedMakeTheMonitorAskANewConnectionAndReplaceThePoolOnce(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := watch(t, db)
	refused := func() health.Status {
		looked := monitor.Status().LastProbe.At
		tx, err := db.Pool().BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "create table t ()")
		require.Error(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		return eventually(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(looked) })
	}
	status := refused()
	assert.True(t, status.LastProbe.Fresh)
	assert.Equal(t, 1, status.Resets)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	status = refused()
	assert.True(t, status.LastProbe.Fresh)
	assert.Equal(t, 1, status.Resets, "an application's own read-only transactions don't cost it the pool again and again")
	assert.Empty(t, transitions)
}

func TestNewConnectionsThatFailWhileOldOnesWorkDoNotShutTheGate(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), maxConns(2))
	monitor, transitions := watch(t, db)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	p.RefuseNew()
	_, err = db.Pool().Exec(t.Context(), "select 1") // needs a second connection
	require.Error(t, err)
	degraded := next(t, transitions)
	assert.Equal(t, health.Degraded, degraded.To)
	assert.Equal(t, []health.Reason{health.ReasonConnectFailing}, degraded.Reasons)
	assert.Equal(t, pgfx.CauseRefused, degraded.Cause)
	require.Error(t, degraded.Err)
	require.NoError(t, db.Internals().Gate().Err())
	_, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	for range 3 {
		_, err := monitor.ProbeNow(t.Context())
		require.Error(t, err)
	}
	conn.Release()
	p.Heal()
	assert.Equal(t, health.Up, next(t, transitions).To, "and nothing in between")
	assert.Zero(t, monitor.Status().Resets)
}
