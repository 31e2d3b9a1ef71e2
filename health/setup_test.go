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
	// patience bounds waits for events that come at once when everything is right.
	patience = 20 * time.Second
	// never is an interval that doesn't pass in a test: what happens, happens for another reason.
	never = time.Hour
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

// newConfig creates a database that is dropped at the test's end, and returns a Config for it whose looks don't come by
// themselves.
func newConfig(t *testing.T, opts ...func(*pgfx.Config)) pgfx.Config {
	t.Helper()
	name := fmt.Sprintf("health_%d_%d", os.Getpid(), databases.Add(1))
	exec(t, server.URL(), "create database "+name)
	t.Cleanup(func() { exec(t, server.URL(), "drop database "+name+" with (force)") })
	config := pgfx.Config{
		URL: server.URL(), Database: name, ApplicationName: strings.ToLower(name),
		Health: pgfx.HealthConfig{Interval: never},
	}
	for _, opt := range opts {
		opt(&config)
	}
	return config
}

// exec runs statements on a connection of its own.
func exec(t *testing.T, url, sql string) {
	t.Helper()
	execute(t, url, sql)
}

// execute is exec for benchmarks too.
func execute(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(tb, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(tb, err)
}

// openDB returns a database that isn't started yet.
func openDB(t *testing.T, config pgfx.Config) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, db.Close(ctx))
	})
	return db
}

// newDB returns a started database of the test's own.
func newDB(t *testing.T, opts ...func(*pgfx.Config)) *pgfx.DB {
	t.Helper()
	db := openDB(t, newConfig(t, opts...))
	require.NoError(t, db.Start(t.Context()))
	return db
}

// newMonitor returns a monitor that isn't started yet.
func newMonitor(t *testing.T, db *pgfx.DB, opts ...health.Option) *health.Monitor {
	t.Helper()
	monitor, err := health.NewMonitor(db, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, monitor.Close(ctx))
	})
	return monitor
}

// watch returns a started monitor and its transitions, without that to the first verdict when the start has waited for it.
func watch(t *testing.T, db *pgfx.DB, opts ...health.Option) (*health.Monitor, <-chan health.Transition) {
	t.Helper()
	monitor := newMonitor(t, db, opts...)
	transitions, _ := monitor.Subscribe()
	started := db.IsHealthy()
	require.NoError(t, monitor.Start(t.Context()))
	if started && monitor.Status().Monitored {
		next(t, transitions)
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

// through leads a Config through a proxy.
func through(p *proxy) func(*pgfx.Config) {
	return func(c *pgfx.Config) {
		c.URL, c.TLS.Mode = p.URL(), pgfx.TLSDisable
	}
}

// next waits for a transition.
func next(t *testing.T, transitions <-chan health.Transition) health.Transition {
	t.Helper()
	select {
	case transition, open := <-transitions:
		require.True(t, open, "the subscription has ended")
		return transition
	case <-time.After(patience):
		require.Fail(t, "no transition")
		return health.Transition{}
	}
}

// until waits for a transition to a state.
func until(t *testing.T, transitions <-chan health.Transition, state health.State) health.Transition {
	t.Helper()
	for {
		if transition := next(t, transitions); transition.To == state {
			return transition
		}
	}
}

// eventually waits until the status is as wanted.
func eventually(t *testing.T, monitor *health.Monitor, wanted func(health.Status) bool) health.Status {
	t.Helper()
	require.Eventually(t, func() bool { return wanted(monitor.Status()) }, patience, time.Millisecond)
	return monitor.Status()
}

// count returns how many connections of the database the server has that belong to a monitor.
func count(t *testing.T, db *pgfx.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.Pool().QueryRow(t.Context(),
		`select count(*) from pg_stat_activity where datname = current_database() and application_name like '%/health'`).Scan(&n))
	return n
}

// terminate ends the monitor's connection, as an administrator or a failing server does.
func terminate(t *testing.T, db *pgfx.DB) {
	t.Helper()
	var ended bool
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and application_name like '%/health'`).Scan(&ended))
	require.True(t, ended)
}

// urlOf is the part of a Config's address that exec needs.
func urlOf(config pgfx.Config) string { return config.URL + "&dbname=" + config.Database }
