package health_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMonitor_FollowsFailoverToStandby(t *testing.T) {
	t.Parallel()
	cluster := faults.NewCluster(t)
	standby := cluster.Standby()
	both, err := url.Parse(cluster.Primary().URL())
	require.NoError(t, err)
	second, err := url.Parse(standby.URL())
	require.NoError(t, err)
	both.Host += "," + second.Host

	reader := openDB(t, pgfx.Config{URL: standby.URL(), Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(t, reader.Start(t.Context()))
	readers, readerTransitions := startMonitor(t, reader)
	status := readers.Status()
	assert.Equal(t, health.ReadOnly, status.State)
	assert.True(t, status.Server.InRecovery)
	assert.True(t, status.Server.LagKnown)
	assert.False(t, status.Demoted, "the configuration names a standby")
	code, body := get(t, health.NewHandler(readers), "/readyz")
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, `{"status":"pass"}`, body)

	writer := openDB(t, pgfx.Config{URL: both.String(), Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(t, writer.Start(t.Context()))
	writers, transitions := startMonitor(t, writer)
	assert.Equal(t, health.Up, writers.Status().State)
	before := writers.Status().Server

	cluster.KillPrimary()
	demoted := awaitState(t, transitions, health.ReadOnly)
	assert.NotEmpty(t, demoted.Reset)
	assert.True(t, writers.Status().Demoted)
	_, err = writer.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "reads still work")
	_, err = writer.Pool().Exec(t.Context(), "create table written ()")
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "25006", refused.Code)

	cluster.Promote()
	promoted := time.Now()
	up := awaitState(t, transitions, health.Up)
	t.Logf("up %v after the promotion", up.At.Sub(promoted).Round(time.Millisecond))
	assert.Equal(t, health.ResetRoleChanged, up.Reset)
	_, err = writer.Pool().Exec(t.Context(), "create table written ()")
	require.NoError(t, err)
	after := writers.Status().Server
	assert.Equal(t, before.SystemIdentifier, after.SystemIdentifier)
	assert.NotEqual(t, before.StartedAt, after.StartedAt)

	_, err = readers.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.ResetRoleChanged, awaitState(t, readerTransitions, health.Up).Reset)
}
