package health_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// ownServer returns a server that a test may mistreat: its data survives its death.
func ownServer(tb testing.TB) *embedded.Server {
	tb.Helper()
	dir := tb.TempDir()
	for _, open := range []string{filepath.Dir(dir), dir} { // the server runs as another user where tests run as root
		require.NoError(tb, os.Chmod(open, 0o711))
	}
	return runServer(tb, embedded.Persistent(filepath.Join(dir, "data")), embedded.Setting("fsync", "off"),
		embedded.Setting("dynamic_shared_memory_type", "mmap")) // kill -9 leaves nothing in /dev/shm
}

// runServer returns a server that is stopped at the test's end.
func runServer(tb testing.TB, opts ...embedded.Option) *embedded.Server {
	tb.Helper()
	own, err := embedded.Start(tb.Context(), opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.NoError(tb, own.Stop(ctx))
	})
	return own
}

// processes returns the postmaster and its children.
func processes(tb testing.TB, postmaster int) []int {
	tb.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(tb, err)
	pids := []int{postmaster}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if parent, err := strconv.Atoi(fields[1]); err == nil && parent == postmaster {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			require.NoError(tb, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func signal(tb testing.TB, signal syscall.Signal, pids ...int) {
	tb.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); !errors.Is(err, syscall.ESRCH) { // children end by themselves
			require.NoError(tb, err)
		}
	}
}

// service is an application as an example of how to treat an outage: what the database can't do now becomes 503 with a hint
// when to come again; everything else goes on.
func service(db *pgfx.DB, monitor *health.Monitor) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/internal/", health.NewHandler(monitor))
	mux.HandleFunc("/answer", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		var answer string
		err := db.Pool().QueryRow(ctx, "select '42'").Scan(&answer)
		switch {
		case away(err):
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the database is away", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, "something went wrong", http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte(answer))
		}
	})
	return mux
}

// away reports whether a statement failed for the database's being away: it is down and known to be, there was no connection
// in time, or the connection broke.
func away(err error) bool {
	return errors.Is(err, pgfx.ErrUnavailable) || errors.Is(err, pgfx.ErrAcquireTimeout) ||
		err != nil && pgfx.CauseOf(err) != pgfx.CauseUnknown
}

func ask(handler http.Handler, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
	return recorder
}

func TestAServerThatDiesUnderLoadAndReturnsCostsNoRestart(t *testing.T) {
	t.Parallel()
	own := ownServer(t)
	db := openDB(t, pgfx.Config{URL: own.URL(), Pool: pgfx.PoolConfig{MaxConns: 4}, Health: pgfx.HealthConfig{Interval: never}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	app := service(db, monitor)

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
				answers[ask(app, "/answer").Code].Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return answers[http.StatusOK].Load() > 100 }, patience, time.Millisecond)

	signal(t, syscall.SIGKILL, own.PID())
	until(t, transitions, health.Down)
	refused := answers[http.StatusServiceUnavailable].Load()
	require.Eventually(t, func() bool { return answers[http.StatusServiceUnavailable].Load() > refused+1000 }, patience, time.Millisecond,
		"requests fail fast")
	assert.Equal(t, "1", ask(app, "/answer").Header().Get("Retry-After"))
	assert.Equal(t, http.StatusOK, ask(app, "/internal/livez").Code, "no orchestrator restarts anything")
	assert.Equal(t, http.StatusServiceUnavailable, ask(app, "/internal/readyz").Code)

	require.Eventually(t, func() bool { return own.PID() == 0 }, patience, time.Millisecond, "its end has been noticed")
	require.NoError(t, own.Start(t.Context()))
	accepting := time.Now()
	up := until(t, transitions, health.Up)
	t.Logf("up %v after the server accepted connections again", up.At.Sub(accepting).Round(time.Millisecond))
	assert.Equal(t, http.StatusOK, ask(app, "/answer").Code, "the first request after that succeeds")
	assert.Equal(t, http.StatusOK, ask(app, "/internal/readyz").Code)
	answered := answers[http.StatusOK].Load()
	require.Eventually(t, func() bool { return answers[http.StatusOK].Load() > answered+100 }, patience, time.Millisecond)
	close(end)
	load.Wait()
	assert.Zero(t, answers[http.StatusInternalServerError].Load())
	assert.LessOrEqual(t, db.Stats().Pool.Open, 4)
	assert.Zero(t, db.Stats().Pool.InUse)
	assert.Equal(t, 1, count(t, db))
}

func TestAFrozenServerIsDownUntilItGoesOn(t *testing.T) {
	t.Parallel()
	own := ownServer(t)
	db := openDB(t, pgfx.Config{
		URL: own.URL(), Health: pgfx.HealthConfig{Interval: 100 * time.Millisecond, Timeout: 200 * time.Millisecond},
	})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	frozen := processes(t, own.PID())
	require.Greater(t, len(frozen), 3)
	t.Cleanup(func() { signal(t, syscall.SIGCONT, frozen...) })
	signal(t, syscall.SIGSTOP, frozen...)
	down := until(t, transitions, health.Down)
	assert.Equal(t, pgfx.CauseTimeout, down.Cause)
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)

	signal(t, syscall.SIGCONT, frozen...)
	until(t, transitions, health.Up)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Equal(t, health.ResetRecovered, monitor.Status().LastReset)
}

func TestAServerThatShutsDownAndStartsAgainIsFollowed(t *testing.T) {
	t.Parallel()
	own := ownServer(t)
	db := openDB(t, pgfx.Config{URL: own.URL(), Health: pgfx.HealthConfig{Interval: never}})
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	before := monitor.Status().Server
	require.NoError(t, own.Stop(t.Context()))
	until(t, transitions, health.Down)
	require.NoError(t, own.Start(t.Context()))
	until(t, transitions, health.Up)
	after := monitor.Status().Server
	assert.Equal(t, before.SystemIdentifier, after.SystemIdentifier)
	assert.True(t, after.StartedAt.After(before.StartedAt))
}
