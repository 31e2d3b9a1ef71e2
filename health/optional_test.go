package health_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestHandler_OptionalDatabaseWarns(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	needed, _ := startMonitor(t, newDB(t))
	optional, transitions := startMonitor(t, newDB(t, viaProxy(p)))
	all, some := health.NewHandler(needed, optional), health.NewHandler(needed).WithOptional(optional)
	p.disconnectAndRefuse()
	awaitState(t, transitions, health.Down)
	code, _ := get(t, all, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	code, body := get(t, some, "/readyz")
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, `{"status":"warn"}`, body)
	code, body = get(t, some, "/healthz")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, "refused")

	optional.Drain(t.Context(), 0)
	code, _ = get(t, some, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, code, "the application is about to stop")
}

func TestMonitor_AwaitUp(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	monitor, transitions := startMonitor(t, newDB(t, viaProxy(p)))
	require.NoError(t, monitor.AwaitUp(t.Context()))

	p.disconnectAndRefuse()
	awaitState(t, transitions, health.Down)
	ctx, expire := testctx.Expiring(t.Context())
	expire()
	err := monitor.AwaitUp(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	assert.Equal(t, pgfx.CauseRefused, monitor.Status().Cause)
	var unavailable *pgfx.UnavailableError
	require.ErrorAs(t, err, &unavailable)
	assert.Equal(t, pgfx.CauseRefused, pgfx.CauseOf(unavailable.Cause))

	awaited := make(chan error, 1)
	go func() { awaited <- monitor.AwaitUp(context.WithoutCancel(t.Context())) }()
	p.Heal()
	require.NoError(t, <-awaited)

	p.disconnectAndRefuse()
	awaitState(t, transitions, health.Down)
	go func() { awaited <- monitor.AwaitUp(context.WithoutCancel(t.Context())) }()
	require.NoError(t, monitor.Close(t.Context()))
	require.ErrorIs(t, <-awaited, health.ErrClosed)
}
