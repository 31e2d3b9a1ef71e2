package health_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMonitor_ProbesAfterFailedStatement(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := startMonitor(t, db)
	lastProbe := monitor.Status().LastProbe.At
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
	require.Error(t, err)
	conn.Release()
	status := awaitStatus(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(lastProbe) })
	assert.Equal(t, health.Up, status.State)
	assert.Empty(t, transitions, "one terminated connection is not an outage")
}

func TestMonitor_RefusedWritesResetPoolOnce(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := startMonitor(t, db)
	refused := func() health.Status {
		lastProbe := monitor.Status().LastProbe.At
		tx, err := db.Pool().BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "create table t ()")
		require.Error(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		return awaitStatus(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(lastProbe) })
	}
	status := refused()
	assert.True(t, status.LastProbe.NewConn)
	assert.Equal(t, 1, status.Resets)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	status = refused()
	assert.True(t, status.LastProbe.NewConn)
	assert.Equal(t, 1, status.Resets, "read-only transactions of the application do not reset the pool repeatedly")
	assert.Empty(t, transitions)
}

func TestMonitor_ConnectFailuresLeaveGateOpen(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), maxConns(2))
	monitor, transitions := startMonitor(t, db)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	p.RefuseNew()
	_, err = db.Pool().Exec(t.Context(), "select 1") // needs a second connection
	require.Error(t, err)
	degraded := nextTransition(t, transitions)
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
	assert.Equal(t, health.Up, nextTransition(t, transitions).To, "with no transition in between")
	assert.Zero(t, monitor.Status().Resets)
}
