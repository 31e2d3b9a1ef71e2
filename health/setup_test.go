package health_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

const (
	// waitLimit bounds waits for events that normally come at once.
	waitLimit = 20 * time.Second
	// noInterval is a probe interval that does not elapse during a test, so each probe has another cause.
	noInterval = time.Hour
)

// server is the server that the tests of this package share.
var server *embedded.Server

type withServer struct{ *testing.M }

func (m withServer) Run() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if server, err = embedded.Start(ctx, embedded.Setting("max_connections", "300")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop(context.Background()) }()
	return m.M.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(withServer{m}) }

var databases atomic.Int64

// newConfig creates a database that is dropped when the test ends, and returns a Config for it whose probe interval does not
// elapse.
func newConfig(t *testing.T, opts ...func(*pgfx.Config)) pgfx.Config {
	t.Helper()
	name := fmt.Sprintf("health_%d_%d", os.Getpid(), databases.Add(1))
	exec(t, server.URL(), "create database "+name)
	t.Cleanup(func() { exec(t, server.URL(), "drop database "+name+" with (force)") })
	config := pgfx.Config{
		URL: server.URL(), Database: name, ApplicationName: strings.ToLower(name),
		Health: pgfx.HealthConfig{Interval: noInterval},
	}
	for _, opt := range opts {
		opt(&config)
	}
	return config
}

// exec runs statements on a separate connection.
func exec(t *testing.T, url, sql string) {
	t.Helper()
	execute(t, url, sql)
}

// execute is exec for tests and benchmarks.
func execute(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(tb, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(tb, err)
}

// openDB returns a database that is not started.
func openDB(t *testing.T, config pgfx.Config) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		assert.NoError(t, db.Close(ctx))
	})
	return db
}

// newDB returns a started database with a new database on the server.
func newDB(t *testing.T, opts ...func(*pgfx.Config)) *pgfx.DB {
	t.Helper()
	db := openDB(t, newConfig(t, opts...))
	require.NoError(t, db.Start(t.Context()))
	return db
}

// newMonitor returns a monitor that is not started.
func newMonitor(t *testing.T, db *pgfx.DB, opts ...health.Option) *health.Monitor {
	t.Helper()
	monitor, err := health.NewMonitor(db, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		assert.NoError(t, monitor.Close(ctx))
	})
	return monitor
}

// startMonitor returns a started monitor and its transitions, without the first one if Start waited for it.
func startMonitor(t *testing.T, db *pgfx.DB, opts ...health.Option) (*health.Monitor, <-chan health.Transition) {
	t.Helper()
	monitor := newMonitor(t, db, opts...)
	transitions, _ := monitor.Subscribe()
	started := db.IsHealthy()
	require.NoError(t, monitor.Start(t.Context()))
	if started && monitor.Status().Monitored {
		nextTransition(t, transitions)
	}
	return monitor, transitions
}

func interval(d time.Duration) func(*pgfx.Config) {
	return func(c *pgfx.Config) { c.Health.Interval = d }
}

func timeout(d time.Duration) func(*pgfx.Config) {
	return func(c *pgfx.Config) { c.Health.Timeout = d }
}

func maxConns(n int) func(*pgfx.Config) {
	return func(c *pgfx.Config) { c.Pool.MaxConns = n }
}

func startMode(mode pgfx.StartMode) func(*pgfx.Config) {
	return func(c *pgfx.Config) { c.Start.Mode = mode }
}

// viaProxy routes a Config through a proxy.
func viaProxy(p *proxy) func(*pgfx.Config) {
	return func(c *pgfx.Config) {
		c.URL, c.TLS.Mode = p.URL(), pgfx.TLSDisable
	}
}

// nextTransition waits for a transition.
func nextTransition(t *testing.T, transitions <-chan health.Transition) health.Transition {
	t.Helper()
	select {
	case transition, open := <-transitions:
		require.True(t, open, "the subscription has ended")
		return transition
	case <-time.After(waitLimit):
		require.Fail(t, "no transition")
		return health.Transition{}
	}
}

// awaitState waits for a transition to a state.
func awaitState(t *testing.T, transitions <-chan health.Transition, state health.State) health.Transition {
	t.Helper()
	for {
		if transition := nextTransition(t, transitions); transition.To == state {
			return transition
		}
	}
}

// awaitStatus waits until the status fulfils a condition.
func awaitStatus(t *testing.T, monitor *health.Monitor, wanted func(health.Status) bool) health.Status {
	t.Helper()
	require.Eventually(t, func() bool { return wanted(monitor.Status()) }, waitLimit, time.Millisecond)
	return monitor.Status()
}

// monitorConns counts the connections of monitors to the database.
func monitorConns(t *testing.T, db *pgfx.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.Pool().QueryRow(t.Context(),
		`select count(*) from pg_stat_activity where datname = current_database() and application_name like '%/health'`).Scan(&n))
	return n
}

// terminateMonitorConn ends the monitor's connection on the server.
func terminateMonitorConn(t *testing.T, db *pgfx.DB) {
	t.Helper()
	var ended bool
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and application_name like '%/health'`).Scan(&ended))
	require.True(t, ended)
}

// urlOf returns the address of a Config as a URL.
func urlOf(config pgfx.Config) string { return config.URL + "&dbname=" + config.Database }
