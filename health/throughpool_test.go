package health_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func throughPool(c *pgfx.Config) { c.Health.ThroughPool = true }

func TestThroughThePoolTheMonitorKeepsNoConnection(t *testing.T) {
	t.Parallel()
	db := newDB(t, throughPool)
	monitor, _ := watch(t, db)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.True(t, status.ThroughPool)
	assert.NotEmpty(t, status.Server.SystemIdentifier)
	assert.False(t, status.LastProbe.Fresh)
	assert.Positive(t, status.LastProbe.Latency)
	assert.Zero(t, count(t, db))
	assert.Zero(t, db.Stats().Pool.InUse)
}

func TestThroughThePoolALostServerIsSeenByTrafficAndComesBack(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), throughPool)
	_, transitions := watch(t, db)
	p.refuse()
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.Error(t, err)
	assert.Equal(t, pgfx.CauseRefused, until(t, transitions, health.Down).Cause)
	p.Heal()
	until(t, transitions, health.Up)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return count(t, db) == 0 }, patience, time.Millisecond)
}

func TestThroughThePoolHalfOpenConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), throughPool, timeout(4*time.Second))
	monitor, transitions := watch(t, db)
	p.freeze(false)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	assert.True(t, status.LastProbe.Fresh)
	assert.Empty(t, transitions)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestThroughThePoolAnExhaustedPoolIsNotSuspect(t *testing.T) {
	t.Parallel()
	db := newDB(t, throughPool, maxConns(1), timeout(4*time.Second))
	monitor, transitions := watch(t, db)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err, "a connection for the moment tells that the database is fine")
	assert.True(t, status.LastProbe.Fresh)
	assert.Zero(t, status.Resets)
	conn.Release()
	assert.Empty(t, transitions)
}

func TestThroughThePoolARoleThatMayNotAskForControlDataIsWatchedAllTheSame(t *testing.T) {
	t.Parallel()
	config := newConfig(t, throughPool)
	exec(t, urlOf(config), `revoke execute on function pg_control_system() from public;
		create role `+config.Database+` login; grant connect on database `+config.Database+` to `+config.Database)
	t.Cleanup(func() {
		exec(t, urlOf(config), "drop owned by "+config.Database)
		exec(t, server.URL(), "drop role "+config.Database)
	})
	config.Username = config.Database
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, _ := watch(t, db)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.Empty(t, status.Server.SystemIdentifier)
	assert.False(t, status.Server.StartedAt.IsZero())
}
