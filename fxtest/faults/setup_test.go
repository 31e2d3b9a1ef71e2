package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

const (
	// timeout bounds events that must happen.
	timeout = 30 * time.Second
	// quiet is how long a test waits for an event that must not happen.
	quiet = 100 * time.Millisecond
)

// setup starts a proxy in front of the test's database, which has a table entries. direct bypasses the proxy.
func setup(t *testing.T) (proxy *faults.Proxy, direct *pgx.Conn) {
	t.Helper()
	url := fxtest.URL(t)
	direct = connect(t, url)
	execute(t, direct, "create table entries (n int unique deferrable initially deferred)")
	return faults.NewProxy(t, url), direct
}

// cleanupContext returns a ctx that is still valid in the test's cleanups.
func cleanupContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := tryConnect(t, url)
	require.NoError(t, err)
	return conn
}

func tryConnect(t *testing.T, url string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(cleanupContext(t)) })
	}
	return conn, err
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value), sql)
	return value
}

func countEntries(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, "select count(*) from entries")
}

func ping(t *testing.T, conn *pgx.Conn, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return conn.Ping(ctx)
}

func code(err error) string { return sqlstate.Code(err) }
