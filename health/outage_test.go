package health_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: degrade
func service(tx *txn.Manager, monitor *health.Monitor) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/internal/", health.NewHandler(monitor))
	mux.HandleFunc("/answer", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		var answer string
		err := tx.QueryRow(ctx, "select '42'").Scan(&answer)
		switch {
		case pgfx.IsUnavailable(err):
			w.Header().Set("Retry-After", "1")
			http.Error(w, "database unavailable", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, "internal error", http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte(answer))
		}
	})
	return mux
}

// docs: end

func request(handler http.Handler, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
	return recorder
}

func TestMonitor_ServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	db := openDB(t, pgfx.Config{URL: own.URL(), Pool: pgfx.PoolConfig{MaxConns: 4}, Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() { assert.NoError(t, tx.Close(context.WithoutCancel(t.Context()))) }()
	app := service(tx, monitor)

	var (
		load    sync.WaitGroup
		answers [600]atomic.Int64
		end     = make(chan struct{})
	)
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				answers[request(app, "/answer").Code].Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return answers[http.StatusOK].Load() > 100 }, waitLimit, time.Millisecond)

	own.Kill()
	awaitState(t, transitions, health.Down)
	refused := answers[http.StatusServiceUnavailable].Load()
	require.Eventually(t, func() bool { return answers[http.StatusServiceUnavailable].Load() > refused+1000 }, waitLimit, time.Millisecond,
		"requests fail fast")
	assert.Equal(t, "1", request(app, "/answer").Header().Get("Retry-After"))
	assert.Equal(t, http.StatusOK, request(app, "/internal/livez").Code, "no orchestrator restarts the application")
	assert.Equal(t, http.StatusServiceUnavailable, request(app, "/internal/readyz").Code)

	own.Restart()
	accepting := time.Now()
	up := awaitState(t, transitions, health.Up)
	t.Logf("up %v after the server accepted connections again", up.At.Sub(accepting).Round(time.Millisecond))
	assert.Equal(t, http.StatusOK, request(app, "/answer").Code, "the first request after that succeeds")
	assert.Equal(t, http.StatusOK, request(app, "/internal/readyz").Code)
	answered := answers[http.StatusOK].Load()
	require.Eventually(t, func() bool { return answers[http.StatusOK].Load() > answered+100 }, waitLimit, time.Millisecond)
	close(end)
	load.Wait()
	assert.Zero(t, answers[http.StatusInternalServerError].Load())
	assert.LessOrEqual(t, db.Stats().Pool.Open, 4)
	assert.Zero(t, db.Stats().Pool.InUse)
	require.Eventually(t, func() bool { return monitorConns(t, db) == 1 }, waitLimit, time.Millisecond, "the monitor has one connection")
}

// A plain pool dials for each call, and for each connection that broke, because pgx sends a cancel request.
func TestMonitor_OutageCostsThePoolFewDials(t *testing.T) {
	t.Parallel()
	const conns, callers, pause = 20, 40, 200 * time.Millisecond
	own := faults.NewServer(t)
	var dials atomic.Int64 // without those of the monitor
	db, err := pgfx.Open(pgfx.Config{
		URL: own.URL(), Pool: pgfx.PoolConfig{MaxConns: conns, MinConns: conns}, Health: pgfx.HealthConfig{Interval: noInterval},
	}, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		dial := cc.DialFunc
		cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasSuffix(cc.RuntimeParams["application_name"], "/health") {
				dials.Add(1)
			}
			return dial(ctx, network, address)
		}
		return nil
	}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	_, transitions := startMonitor(t, db)

	var load sync.WaitGroup
	var succeeded, failed atomic.Int64
	stop := make(chan struct{})
	for range callers {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := db.Pool().Exec(context.Background(), "select pg_sleep(0.001)"); err != nil {
					failed.Add(1)
				} else {
					succeeded.Add(1)
				}
			}
		})
	}
	require.Eventually(t, func() bool { return succeeded.Load() > 10*conns }, waitLimit, time.Millisecond)
	before, began := dials.Load(), time.Now()
	own.Kill()
	awaitState(t, transitions, health.Down)
	assert.LessOrEqual(t, dials.Load()-before, 2+int64(time.Since(began)/pause), "one attempt after another, until the gate closes")

	before = dials.Load()
	refused := failed.Load()
	require.Eventually(t, func() bool { return failed.Load() > refused+1000 }, waitLimit, time.Millisecond)
	assert.LessOrEqual(t, dials.Load(), before+1, "an attempt may have begun before the gate was closed")
	own.Restart()
	awaitState(t, transitions, health.Up)
	good := succeeded.Load()
	require.Eventually(t, func() bool { return succeeded.Load() > good+10*conns }, waitLimit, time.Millisecond)
	close(stop)
	load.Wait()
}

func TestMonitor_FrozenServerIsDown(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	db := openDB(t, pgfx.Config{
		URL: own.URL(), Health: pgfx.HealthConfig{Interval: 100 * time.Millisecond, Timeout: 2 * time.Second},
	})
	require.NoError(t, db.Start(t.Context()))
	_, transitions := startMonitor(t, db)
	own.Freeze()
	down := awaitState(t, transitions, health.Down)
	assert.Equal(t, pgfx.CauseTimeout, down.Cause)
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)

	own.Thaw()
	assert.Equal(t, health.ResetRecovered, awaitState(t, transitions, health.Up).Reset)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestMonitor_FollowsRestart(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	db := openDB(t, pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: noInterval}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	before := monitor.Status().Server
	own.Stop()
	awaitState(t, transitions, health.Down)
	own.Restart()
	awaitState(t, transitions, health.Up)
	after := monitor.Status().Server
	assert.Equal(t, before.SystemIdentifier, after.SystemIdentifier)
	assert.True(t, after.StartedAt.After(before.StartedAt))
}
