package txn_test

import (
	"context"
	"errors"
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

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// patience bounds waits for events that come at once when everything is right.
const patience = 20 * time.Second

var errTest = errors.New("the closure's own error")

// server is the server that all tests of this package share.
var server *embedded.Server

type withServer struct{ *testing.M }

func (m withServer) Run() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if server, err = embedded.Start(ctx, embedded.Setting("max_connections", "200")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop(context.Background()) }()
	return m.M.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(withServer{m}) }

var databases atomic.Int64

// newDatabase creates a database that is dropped at the test's end, and returns its address.
func newDatabase(tb testing.TB) pgfx.Config {
	tb.Helper()
	name := fmt.Sprintf("txn_%d_%d", os.Getpid(), databases.Add(1))
	admin := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, server.URL())
		require.NoError(tb, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, sql)
		require.NoError(tb, err)
	}
	admin("create database " + name)
	tb.Cleanup(func() { admin("drop database " + name + " with (force)") })
	return pgfx.Config{URL: server.URL(), Database: name, ApplicationName: strings.ToLower(tb.Name())}
}

// newDB returns a started database of the test's own, with a table entries.
func newDB(tb testing.TB, opts ...func(*pgfx.Config)) *pgfx.DB {
	tb.Helper()
	return openDB(tb, newDatabase(tb), opts...)
}

func openDB(tb testing.TB, config pgfx.Config, opts ...func(*pgfx.Config)) *pgfx.DB {
	tb.Helper()
	for _, opt := range opts {
		opt(&config)
	}
	db, err := pgfx.Open(config)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(tb, db.Close(ctx))
	})
	require.NoError(tb, db.Start(tb.Context()))
	_, err = db.Pool().Exec(tb.Context(), `create table if not exists entries (name text primary key, n int not null default 0)`)
	require.NoError(tb, err)
	return db
}

// newManager returns a manager on a database of its own.
func newManager(tb testing.TB, opts ...func(*pgfx.Config)) *txn.Manager {
	tb.Helper()
	return managerOf(tb, newDB(tb, opts...))
}

func managerOf(tb testing.TB, db *pgfx.DB, opts ...txn.ManagerOption) *txn.Manager {
	tb.Helper()
	m, err := txn.NewManager(db, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(tb, m.Close(ctx))
	})
	return m
}

func maxConns(n int) func(*pgfx.Config) {
	return func(c *pgfx.Config) { c.Pool.MaxConns = n }
}

func insert(ctx context.Context, m *txn.Manager, name string) error {
	_, err := m.Exec(ctx, "insert into entries (name) values ($1)", name)
	return err
}

// entries returns what is stored, as everybody else sees it.
func entries(tb testing.TB, db *pgfx.DB) []string {
	tb.Helper()
	rows, err := db.Pool().Query(context.Background(), "select name from entries order by name")
	require.NoError(tb, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(tb, err)
	return names
}

// connected returns how many connections the pool has opened so far.
func connected(db *pgfx.DB) int64 { return db.Stats().Pool.Connected }

// settled waits until nobody holds a connection.
func settled(tb testing.TB, db *pgfx.DB) {
	tb.Helper()
	require.Eventually(tb, func() bool { return db.Stats().Pool.InUse == 0 }, patience, time.Millisecond, "a connection is still held")
}
