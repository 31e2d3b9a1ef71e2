package health_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestMonitor_FullServer(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t, embedded.Setting("max_connections", "12"))
	db := openDB(t, pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)

	release := own.FillConnections()
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	nearly := nextTransition(t, transitions)
	assert.Equal(t, health.Degraded, nearly.To)
	assert.Equal(t, []health.Reason{health.ReasonServerNearlyFull}, nearly.Reasons)
	_, err = db.Pool().Exec(t.Context(), "select 1") // needs a second connection
	require.Error(t, err)
	full := nextTransition(t, transitions)
	assert.Equal(t, health.Degraded, full.To)
	assert.Equal(t, []health.Reason{health.ReasonServerFull}, full.Reasons)
	assert.Equal(t, pgfx.CauseServerFull, full.Cause)
	require.NoError(t, db.Internals().Gate().Err(), "existing connections work")
	_, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)

	another := openDB(t, pgfx.Config{
		URL: own.URL(), Health: pgfx.HealthConfig{Interval: noInterval}, Start: pgfx.StartConfig{Mode: pgfx.StartLazy},
	})
	require.NoError(t, another.Start(t.Context()))
	_, others := startMonitor(t, another)
	down := nextTransition(t, others)
	assert.Equal(t, health.Down, down.To, "no connection works")
	assert.Equal(t, pgfx.CauseServerFull, down.Cause)

	conn.Release()
	release()
	awaitState(t, transitions, health.Up)
	awaitState(t, others, health.Up)
}

func TestMonitor_RotatedPasswordCausesNoLoginStorm(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	var (
		current atomic.Pointer[string]
		logins  atomic.Int64
	)
	old := passwordOf(t, own.URL())
	current.Store(&old)
	db, err := pgfx.Open(pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: noInterval}},
		pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
			logins.Add(1)
			return pgfx.Credentials{Password: *current.Load()}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)

	rotated := own.RotatePassword()
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err, "existing sessions continue")
	own.TerminateBackends()
	down := awaitState(t, transitions, health.Down)
	assert.Equal(t, pgfx.CauseLogin, down.Cause)
	before := logins.Load()
	const statements = 1000
	for range statements {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, pgfx.ErrUnavailable)
	}
	assert.Less(t, logins.Load()-before, int64(statements/10), "only the monitor logs in, with backoff")

	current.Store(&rotated)
	assert.Equal(t, health.ResetRecovered, awaitState(t, transitions, health.Up).Reset)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func passwordOf(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return config.Password
}

// TestMonitor_ProbesDoNotLeakMemory compares the number of heap objects before and after many probes. RDSFX_PROBES sets the
// number of probes.
func TestMonitor_ProbesDoNotLeakMemory(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	probes := 1000
	if text := os.Getenv("RDSFX_PROBES"); text != "" {
		var err error
		probes, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	db := newDB(t)
	monitor, _ := startMonitor(t, db)
	probe := func(n int) {
		for range n {
			_, err := monitor.ProbeNow(t.Context())
			require.NoError(t, err)
		}
	}
	objects := func() int {
		var stats runtime.MemStats
		for range 2 { // the second frees what the first has finalised
			runtime.GC() //nolint:revive // garbage must not count
		}
		runtime.ReadMemStats(&stats)
		return int(stats.HeapObjects)
	}
	probe(probes / 10)
	before, goroutines, began := objects(), runtime.NumGoroutine(), time.Now()
	probe(probes)
	took, grown := time.Since(began), objects()-before
	t.Logf("%d probes in %v: %+d objects on the heap", probes, took.Round(time.Millisecond), grown)
	assert.Less(t, grown, max(probes/10, 300), "one object for each probe would be %d", probes)
	for runtime.NumGoroutine() > goroutines && time.Since(began) < took+waitLimit { // a goroutine may be about to end
		runtime.Gosched()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}
