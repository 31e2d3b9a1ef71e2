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

func TestAServerWithoutASlotLeftIsDegradedWhileThePoolHasConnectionsAndDownWhenItHasNone(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t, embedded.Setting("max_connections", "12"))
	db := openDB(t, pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: never}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)

	release := own.FillConnections()
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	nearly := next(t, transitions)
	assert.Equal(t, health.Degraded, nearly.To)
	assert.Equal(t, []health.Reason{health.ReasonServerNearlyFull}, nearly.Reasons)
	_, err = db.Pool().Exec(t.Context(), "select 1") // needs a second connection
	require.Error(t, err)
	full := next(t, transitions)
	assert.Equal(t, health.Degraded, full.To)
	assert.Equal(t, []health.Reason{health.ReasonServerFull}, full.Reasons)
	assert.Equal(t, pgfx.CauseServerFull, full.Cause)
	require.NoError(t, db.Internals().Gate().Err(), "what is connected works")
	_, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)

	another := openDB(t, pgfx.Config{
		URL: own.URL(), Health: pgfx.HealthConfig{Interval: never}, Start: pgfx.StartConfig{Mode: pgfx.StartLazy},
	})
	require.NoError(t, another.Start(t.Context()))
	_, others := watch(t, another)
	down := next(t, others)
	assert.Equal(t, health.Down, down.To, "without a connection there is nothing that works")
	assert.Equal(t, pgfx.CauseServerFull, down.Cause)

	conn.Release()
	release()
	until(t, transitions, health.Up)
	until(t, others, health.Up)
}

func TestARotatedPasswordIsPickedUpWithoutARestartAndWithoutAStormOfLogins(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	var (
		known  atomic.Pointer[string]
		logins atomic.Int64
	)
	old := passwordOf(t, own.URL())
	known.Store(&old)
	db, err := pgfx.Open(pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: never}},
		pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
			logins.Add(1)
			return pgfx.Credentials{Password: *known.Load()}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)

	rotated := own.RotatePassword()
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err, "sessions go on")
	own.TerminateBackends()
	down := until(t, transitions, health.Down)
	assert.Equal(t, pgfx.CauseLogin, down.Cause)
	before := logins.Load()
	const statements = 1000
	for range statements {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, pgfx.ErrUnavailable)
	}
	assert.Less(t, logins.Load()-before, int64(statements/10), "callers log in to nothing; the monitor alone does, less and less often")

	known.Store(&rotated)
	assert.Equal(t, health.ResetRecovered, until(t, transitions, health.Up).Reset)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func passwordOf(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return config.Password
}

// TestLooksLeaveNothingBehind counts what is on the heap before and after very many looks. RDSFX_LOOKS sets how many.
func TestLooksLeaveNothingBehind(t *testing.T) { //nolint:paralleltest // the heap is the whole process's
	looks := 1000
	if text := os.Getenv("RDSFX_LOOKS"); text != "" {
		var err error
		looks, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	db := newDB(t)
	monitor, _ := watch(t, db)
	look := func(n int) {
		for range n {
			_, err := monitor.ProbeNow(t.Context())
			require.NoError(t, err)
		}
	}
	objects := func() int {
		var stats runtime.MemStats
		for range 2 { // the second takes what the first has finalised
			runtime.GC() //nolint:revive // garbage must not count
		}
		runtime.ReadMemStats(&stats)
		return int(stats.HeapObjects)
	}
	look(looks / 10)
	before, goroutines, began := objects(), runtime.NumGoroutine(), time.Now()
	look(looks)
	took, grown := time.Since(began), objects()-before
	t.Logf("%d looks in %v: %+d objects on the heap", looks, took.Round(time.Millisecond), grown)
	assert.Less(t, grown, max(looks/10, 300), "one object a look would be %d", looks)
	for runtime.NumGoroutine() > goroutines && time.Since(began) < took+patience { // the last may be about to end
		runtime.Gosched()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}
