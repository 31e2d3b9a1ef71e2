package health_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMonitor_LogsInWhenRefusedCredentialsChange(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	var password atomic.Pointer[string]
	first := server.RotatePassword()
	password.Store(&first)
	db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Health: pgfx.HealthConfig{Interval: noInterval}},
		pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
			return pgfx.Credentials{Password: *password.Load()}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)

	second := server.RotatePassword()
	server.TerminateBackends()
	assert.Equal(t, pgfx.CauseLogin, awaitState(t, transitions, health.Down).Cause)
	require.Eventually(t, func() bool { return time.Until(monitor.NextProbe()) > time.Second }, waitLimit, time.Millisecond,
		"the monitor logs in less and less often")

	planned := monitor.NextProbe()
	password.Store(&second)
	awaitState(t, transitions, health.Up)
	assert.True(t, monitor.Status().LastGood.Before(planned), "the monitor does not wait for the planned probe")
}
