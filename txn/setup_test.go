package txn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// waitTimeout bounds waits for events that normally happen within milliseconds.
const waitTimeout = 20 * time.Second

var errTest = errors.New("the closure's own error")

func TestMain(m *testing.M) {
	if url := os.Getenv(leaderEnv); url != "" {
		fmt.Fprintln(os.Stderr, staleLeader(url))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// leaderEnv makes the test binary a leader, of the database at this URL.
const leaderEnv = "RDSFX_TEST_LEADER"

// staleLeader leads until it reads a line, and then writes as a leader that has noticed nothing.
func staleLeader(url string) error {
	ctx := context.Background()
	db, err := pgfx.Open(pgfx.Config{URL: url})
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	m, err := txn.NewManager(db)
	if err != nil {
		return err
	}
	return m.Lead(ctx, "job", func(ctx context.Context, leader *txn.Leader) error {
		_, _ = fmt.Fprintln(os.Stdout, "leading")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "the write:", fenced(context.WithoutCancel(ctx), m, leader, "stale"))
		os.Exit(1) // Lead would take part in the next election
		return nil
	})
}

// newDB returns a started database for this test only, with a table entries.
func newDB(tb testing.TB, opts ...func(*pgfx.Config)) *pgfx.DB {
	tb.Helper()
	patient := func(c *pgfx.Config) { c.Timeouts.Cancel = waitTimeout } // a slow machine may need more than the default
	return openDB(tb, fxtest.URL(tb), append([]func(*pgfx.Config){patient}, opts...)...)
}

// openDB returns the started database at this URL, with a table entries.
func openDB(tb testing.TB, url string, opts ...func(*pgfx.Config)) *pgfx.DB {
	tb.Helper()
	var config pgfx.Config
	for _, opt := range opts {
		opt(&config)
	}
	db := fxtest.DB(tb, fxtest.At(url), fxtest.Config(config))
	_, err := db.Pool().Exec(tb.Context(), makeEntries)
	require.NoError(tb, err)
	return db
}

const makeEntries = "create table if not exists entries (name text primary key, n int not null default 0)"

// newProxy returns a proxy in front of a database for this test only.
func newProxy(tb testing.TB) *faults.Proxy {
	tb.Helper()
	return faults.NewProxy(tb, fxtest.URL(tb))
}

// newManager returns a manager of a separate database.
func newManager(tb testing.TB, opts ...func(*pgfx.Config)) *txn.Manager {
	tb.Helper()
	return managerOf(tb, newDB(tb, opts...))
}

func managerOf(tb testing.TB, db *pgfx.DB, opts ...txn.ManagerOption) *txn.Manager {
	tb.Helper()
	m, err := txn.NewManager(db, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
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

// entries returns the committed names.
func entries(tb testing.TB, db *pgfx.DB) []string {
	tb.Helper()
	rows, err := db.Pool().Query(context.Background(), "select name from entries order by name")
	require.NoError(tb, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(tb, err)
	return names
}

// openedConns returns the number of connections that the pool has opened so far.
func openedConns(db *pgfx.DB) int64 { return db.Stats().Pool.Connected }

// requireReleased waits until every connection is released.
func requireReleased(tb testing.TB, db *pgfx.DB) {
	tb.Helper()
	require.Eventually(tb, func() bool { return db.Stats().Pool.InUse == 0 }, waitTimeout, time.Millisecond, "a connection was not released")
}

// envNumber returns the value of an environment variable, or fallback if it is not set.
func envNumber(tb testing.TB, name string, fallback uint64) uint64 {
	tb.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(tb, err)
	return n
}
