package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
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

// get requests a path and returns the status code and the body.
func get(t *testing.T, handler http.Handler, path string) (code int, body string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	assert.Equal(t, "no-store", recorder.Header().Get("Cache-Control"))
	return recorder.Code, recorder.Body.String()
}

// statusCodes requests all four endpoints.
func statusCodes(t *testing.T, handler http.Handler) [4]int {
	t.Helper()
	var got [4]int
	for i, path := range []string{"/livez", "/readyz", "/startupz", "/healthz"} {
		got[i], _ = get(t, handler, path)
	}
	return got
}

func TestHandler_FollowsDatabaseExceptLiveness(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	monitor, transitions := startMonitor(t, db)
	handler := health.NewHandler(monitor)
	assert.Equal(t, [4]int{200, 200, 200, 200}, statusCodes(t, handler))
	lastProbe := monitor.Status().LastProbe.At

	p.disconnectAndRefuse()
	awaitState(t, transitions, health.Down)
	assert.Equal(t, [4]int{200, 503, 200, 503}, statusCodes(t, handler))
	_, body := get(t, handler, "/readyz?verbose")
	assert.Contains(t, body, "[-] postgresql:connection: down: refused: pgfx: cannot connect to postgres@127.0.0.1")
	assert.Contains(t, body, "readyz: fail\n")
	_, body = get(t, handler, "/readyz")
	assert.JSONEq(t, `{"status":"fail"}`, body)

	p.Heal()
	awaitState(t, transitions, health.Up)
	assert.Equal(t, [4]int{200, 200, 200, 200}, statusCodes(t, handler))
	assert.True(t, monitor.Status().LastProbe.At.After(lastProbe))
}

func TestHandler_DoesNotProbe(t *testing.T) {
	t.Parallel()
	monitor, _ := startMonitor(t, newDB(t))
	lastProbe := monitor.Status().LastProbe
	statusCodes(t, health.NewHandler(monitor))
	assert.Equal(t, lastProbe, monitor.Status().LastProbe)
}

func TestHandler_NotReadyBeforeSetup(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := openDB(t, newConfig(t, viaProxy(p), startMode(pgfx.StartOptional)))
	p.disconnectAndRefuse()
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	awaitState(t, transitions, health.Down)
	handler := health.NewHandler(monitor)
	assert.Equal(t, [4]int{200, 503, 503, 503}, statusCodes(t, handler))
	_, body := get(t, handler, "/startupz?verbose")
	assert.Contains(t, body, "[-] postgresql:setup: the setup steps have not run yet: pgfx: cannot connect")
	p.Heal()
	awaitStatus(t, monitor, func(s health.Status) bool { return s.Initialized && s.State == health.Up })
	assert.Equal(t, [4]int{200, 200, 200, 200}, statusCodes(t, handler))
}

func TestHandler_NotReadyDuringSetup(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	db, err := pgfx.Open(newConfig(t, startMode(pgfx.StartLazy)), pgfx.WithSetup(pgfx.SetupStep{
		Name: "migrations",
		Run: func(ctx context.Context, _ *pgfx.DB) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	monitor := newMonitor(t, db)
	require.NoError(t, monitor.Start(t.Context()))
	awaitStatus(t, monitor, func(s health.Status) bool { return s.State == health.Up })
	handler := health.NewHandler(monitor)
	assert.Equal(t, [4]int{200, 503, 503, 503}, statusCodes(t, handler))
	close(release)
	awaitStatus(t, monitor, func(s health.Status) bool { return s.Initialized })
	assert.Equal(t, [4]int{200, 200, 200, 200}, statusCodes(t, handler))
}

func TestHandler_HealthzJSON(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	monitor, _ := startMonitor(t, newDB(t), health.WithChecks(health.Check{
		Name: "queue", Optional: true, CacheFor: time.Nanosecond,
		Run: func(context.Context) error {
			if broken.Load() {
				return errors.New("lagging")
			}
			return nil
		},
	}))
	handler := health.NewHandler(monitor)
	ask := func() (status string, checks map[string][]map[string]any) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/internal/healthz", http.NoBody))
		assert.Equal(t, http.StatusOK, recorder.Code)
		assert.Equal(t, "application/health+json", recorder.Header().Get("Content-Type"))
		var body struct {
			Status string                      `json:"status"`
			Checks map[string][]map[string]any `json:"checks"`
		}
		require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &body))
		return body.Status, body.Checks
	}
	status, checks := ask()
	assert.Equal(t, "pass", status)
	require.Len(t, checks, 3)
	connection := checks["postgresql:connection"][0]
	assert.Equal(t, "datastore", connection["componentType"])
	assert.Equal(t, "us", connection["observedUnit"])
	assert.Positive(t, connection["observedValue"])
	assert.Equal(t, "pass", connection["status"])
	assert.NotContains(t, connection, "output")
	assert.NotContains(t, connection["componentId"], "password")
	assert.Contains(t, checks, "postgresql:pool")
	assert.Equal(t, "pass", checks["queue"][0]["status"])

	broken.Store(true)
	status, checks = ask()
	assert.Equal(t, "warn", status, "an optional check only warns")
	assert.Equal(t, "lagging", checks["queue"][0]["output"])
	code, _ := get(t, handler, "/readyz")
	assert.Equal(t, http.StatusOK, code)
}

func TestHandler_FailingCheckByKind(t *testing.T) {
	t.Parallel()
	down := func(context.Context) error { return errors.New("down") }
	for kind, want := range map[health.CheckKind][4]int{
		health.Readiness: {200, 503, 200, 503},
		health.Liveness:  {503, 200, 200, 503},
		health.Startup:   {200, 200, 503, 503},
	} {
		monitor, _ := startMonitor(t, newDB(t), health.WithChecks(health.Check{Name: "broken", Kind: kind, Run: down}))
		assert.Equal(t, want, statusCodes(t, health.NewHandler(monitor)), kind)
	}
}

func TestHandler_DemotedServerIsReadyWithWarning(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	exec(t, server.URL(), "alter database "+config.Database+" set default_transaction_read_only = on")
	terminateMonitorConn(t, db)
	awaitState(t, transitions, health.ReadOnly)
	code, body := get(t, health.NewHandler(monitor), "/readyz")
	assert.Equal(t, http.StatusOK, code)
	assert.JSONEq(t, `{"status":"warn"}`, body)
}

func TestHandler_SeveralDatabases(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	first, _ := startMonitor(t, newDB(t))
	second, transitions := startMonitor(t, newDB(t, viaProxy(p)))
	handler := health.NewHandler(first, second)
	assert.Equal(t, [4]int{200, 200, 200, 200}, statusCodes(t, handler))
	p.disconnectAndRefuse()
	awaitState(t, transitions, health.Down)
	assert.Equal(t, [4]int{200, 503, 200, 503}, statusCodes(t, handler))
}

func TestHandler_OtherPathsAndMethods(t *testing.T) {
	t.Parallel()
	monitor := newMonitor(t, newDB(t))
	handler := health.NewHandler(monitor)
	for method, path := range map[string]string{http.MethodGet: "/", http.MethodHead: "/readyz", http.MethodPost: "/readyz"} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		want := map[string]int{http.MethodGet: 404, http.MethodHead: 200, http.MethodPost: 405}[method]
		assert.Equal(t, want, recorder.Code, method)
	}
}

func TestDrain_OnlyReadinessFails(t *testing.T) {
	t.Parallel()
	monitor, _ := startMonitor(t, newDB(t))
	handler := health.NewHandler(monitor)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	monitor.Drain(ended, time.Hour)
	assert.Equal(t, [4]int{200, 503, 200, 503}, statusCodes(t, handler))
	assert.True(t, monitor.Status().Draining)
	assert.Equal(t, health.Up, monitor.Status().State)
	_, body := get(t, handler, "/readyz?verbose")
	assert.Contains(t, body, "draining")
}

func TestDrainOnStop_RunsFirst(t *testing.T) {
	t.Parallel()
	var monitor *health.Monitor
	served := false
	app := fxtest.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(newConfig(t)), fx.Populate(&monitor),
		fx.Invoke(func(lifecycle fx.Lifecycle, m *health.Monitor) {
			lifecycle.Append(fx.StopHook(func() { // the stop hook of an HTTP server
				served = true
				code, _ := get(t, health.NewHandler(m), "/readyz")
				assert.Equal(t, http.StatusServiceUnavailable, code)
				assert.Equal(t, health.Up, m.Status().State)
			}))
		}),
		health.DrainOnStop(time.Millisecond),
	)
	app.RequireStart()
	assert.False(t, monitor.Status().Draining)
	app.RequireStop()
	assert.True(t, served)
}
