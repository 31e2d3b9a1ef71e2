package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

const (
	// patience bounds waits for events that come at once when everything is right.
	patience = 30 * time.Second
	// impatience is how long something is waited for that must not come.
	impatience = 100 * time.Millisecond
)

// patiently returns a ctx that outlives the test's own, for cleaning up.
func patiently(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := dial(t, url)
	require.NoError(t, err)
	return conn
}

// dial is connect for attempts that may fail.
func dial(t *testing.T, url string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(patiently(t)) })
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

// pingWithin asks for an answer and gives up after a time.
func pingWithin(t *testing.T, conn *pgx.Conn, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return conn.Ping(ctx)
}
