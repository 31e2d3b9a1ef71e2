package health_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestChecks_RunConcurrentlySortedByName(t *testing.T) {
	t.Parallel()
	rendezvous := make(chan struct{})
	other := health.Check{Name: "other", Run: func(context.Context) error { return errors.New("not mine") }}.For("reporting")
	monitor := newMonitor(t, newDB(t), health.WithChecks(
		health.Check{Name: "b", Run: func(context.Context) error { rendezvous <- struct{}{}; return nil }},
		health.Check{Name: "a", Optional: true, Run: func(context.Context) error { <-rendezvous; return errors.New("down") }},
		health.Check{Name: "c", Kind: health.Liveness, Run: func(context.Context) error { return nil }},
		health.Check{Name: "empty"}, other,
	))
	results := monitor.Checks(t.Context(), health.Readiness)
	require.Len(t, results, 2)
	assert.Equal(t, "a", results[0].Name)
	assert.True(t, results[0].Optional)
	require.EqualError(t, results[0].Err, "down")
	assert.Equal(t, "b", results[1].Name)
	require.NoError(t, results[1].Err)
	assert.Equal(t, health.Readiness, results[1].Kind)
	assert.Len(t, monitor.Checks(t.Context(), health.Liveness), 1)
	assert.Empty(t, monitor.Checks(t.Context(), health.Startup))
}

func TestChecks_ConcurrentCallersShareRun(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	release := make(chan struct{})
	monitor := newMonitor(t, newDB(t), health.WithChecks(health.Check{
		Name: "slow", Timeout: waitLimit, CacheFor: time.Hour, Run: func(context.Context) error { runs.Add(1); <-release; return nil },
	}))
	const probes = 100
	done := make(chan []health.CheckResult, probes)
	for range probes {
		go func() { done <- monitor.Checks(context.Background(), health.Readiness) }()
	}
	require.Eventually(t, func() bool { return runs.Load() == 1 }, waitLimit, time.Millisecond)
	close(release)
	for range probes {
		require.NoError(t, (<-done)[0].Err)
	}
	monitor.Checks(t.Context(), health.Readiness)
	assert.EqualValues(t, 1, runs.Load())
}

func TestChecks_CacheExpires(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	monitor := newMonitor(t, newDB(t), health.WithChecks(
		health.Check{Name: "fresh", CacheFor: time.Nanosecond, Run: func(context.Context) error { runs.Add(1); return nil }},
	))
	monitor.Checks(t.Context(), health.Readiness)
	monitor.Checks(t.Context(), health.Readiness)
	assert.EqualValues(t, 2, runs.Load())
}

func TestChecks_PassedStartupCheckRunsOnce(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	monitor := newMonitor(t, newDB(t), health.WithChecks(health.Check{
		Name: "caches filled", Kind: health.Startup, CacheFor: time.Nanosecond,
		Run: func(context.Context) error {
			if runs.Add(1) == 1 {
				return errors.New("not yet")
			}
			return nil
		},
	}))
	require.Error(t, monitor.Checks(t.Context(), health.Startup)[0].Err)
	for range 3 {
		require.NoError(t, monitor.Checks(t.Context(), health.Startup)[0].Err)
	}
	assert.EqualValues(t, 2, runs.Load())
}

func TestChecks_HangingCheckFailsInTime(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	release := make(chan struct{})
	monitor := newMonitor(t, newDB(t), health.WithChecks(health.Check{
		Name: "hangs", Timeout: time.Millisecond, CacheFor: time.Nanosecond,
		Run: func(context.Context) error { runs.Add(1); <-release; return nil },
	}))
	for range 3 {
		results := monitor.Checks(t.Context(), health.Readiness)
		require.ErrorContains(t, results[0].Err, "check did not return within 1ms")
		assert.Equal(t, "hangs", results[0].Name)
	}
	require.Eventually(t, func() bool { return runs.Load() == 1 }, waitLimit, time.Millisecond) // it may not have begun in that time
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, monitor.Close(ended), "the check still runs")
	close(release)
	require.NoError(t, monitor.Close(t.Context()))
	require.ErrorIs(t, monitor.Checks(t.Context(), health.Readiness)[0].Err, health.ErrClosed)
	assert.EqualValues(t, 1, runs.Load())
}

func TestChecks_ContextEndsAfterTimeout(t *testing.T) {
	t.Parallel()
	monitor := newMonitor(t, newDB(t), health.WithChecks(
		health.Check{Name: "slow", Timeout: time.Millisecond, Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	))
	require.Error(t, monitor.Checks(t.Context(), health.Readiness)[0].Err)
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the prober has gone"))
	hang := newMonitor(t, newDB(t), health.WithChecks(
		health.Check{Name: "hangs", Timeout: time.Hour, Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	))
	require.EqualError(t, hang.Checks(ended, health.Readiness)[0].Err, "the prober has gone")
}

func TestChecks_PanicAndGoexitFail(t *testing.T) {
	t.Parallel()
	monitor := newMonitor(t, newDB(t), health.WithChecks(
		health.Check{Name: "exits", Timeout: waitLimit, Run: func(context.Context) error { runtime.Goexit(); return nil }},
		health.Check{Name: "panics", Timeout: waitLimit, Run: func(context.Context) error { panic("boom") }},
	))
	results := monitor.Checks(t.Context(), health.Readiness)
	require.EqualError(t, results[0].Err, "check called runtime.Goexit")
	require.EqualError(t, results[1].Err, "check panicked: boom")
}

func TestProvideChecks_SuppliedAndProvided(t *testing.T) {
	t.Parallel()
	var monitor *health.Monitor
	app := fxtest.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(newConfig(t)), fx.Populate(&monitor),
		health.ProvideChecks(health.Check{Name: "queue", Run: func(context.Context) error { return nil }}),
		fx.Provide(fx.Annotate(func(db *pgfx.DB) health.Check {
			return health.Check{Name: "rows", Run: db.Pool().Ping}
		}, fx.ResultTags(`group:"health.checks"`))),
	)
	app.RequireStart()
	results := monitor.Checks(t.Context(), health.Readiness)
	require.Len(t, results, 2)
	require.NoError(t, results[0].Err)
	require.NoError(t, results[1].Err)
	app.RequireStop()
}
