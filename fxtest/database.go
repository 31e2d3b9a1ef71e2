package fxtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// EnvKeep keeps the database of a test that fails, and prints its address.
const EnvKeep = "RDSFX_TEST_KEEP"

const (
	databasePrefix = "rdsfx_t_"
	// setupTimeout bounds what one test waits for its database, a server that has to be started first included.
	setupTimeout = time.Minute
	// cleanupTimeout bounds closing and dropping after a test.
	cleanupTimeout = 20 * time.Second
	// leakTimeout takes its place when the test still holds connections: waiting doesn't bring them back.
	leakTimeout = time.Second
)

// URL makes a database for the test, cloned from the template that opts describe, and returns its address. The database
// is dropped at the end of the test, after the test's own cleanups; connections that are still open then are reported as
// errors of the test.
func URL(tb testing.TB, opts ...Option) string {
	tb.Helper()
	s, err := collect(opts)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	return address(tb, s)
}

// address is where the test's database is: where it was told to be, or on a new one.
func address(tb testing.TB, s settings) string {
	tb.Helper()
	if s.at != "" {
		return s.at
	}
	return createDatabase(tb, s)
}

// DB is [URL] with a started *pgfx.DB on it. Connections that the test does not return are reported with the place where
// they were acquired.
func DB(tb testing.TB, opts ...Option) *pgfx.DB {
	tb.Helper()
	s, err := collect(opts)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	cfg := s.config
	cfg.URL = address(tb, s)
	id := label()
	db, err := pgfx.Open(cfg, append(s.pool, Recording())...)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if err := db.Start(ctx); err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() {
		if closeDB(tb, db) {
			reportGoroutines(tb, id)
		}
	})
	return db
}

// closeDB reports what the test still holds and closes the pool. It reports whether everything came back.
func closeDB(tb testing.TB, db *pgfx.DB) (clean bool) {
	tb.Helper()
	timeout := cleanupTimeout
	if clean = reportLeases(tb, db); !clean {
		timeout = leakTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := db.Close(ctx); err != nil {
		if _, held := errors.AsType[*pgfx.CloseTimeoutError](err); !held { // those have been reported
			tb.Errorf("fxtest: %v", err)
		}
	}
	return clean
}

func reportLeases(tb testing.TB, db *pgfx.DB) (clean bool) {
	tb.Helper()
	leases := db.Leases()
	for _, lease := range leases {
		tb.Errorf("fxtest: a connection was not returned at the end of the test: %s\n%s", lease, stack(lease))
	}
	return len(leases) == 0
}

func stack(lease pgfx.Lease) string {
	var b strings.Builder
	for _, frame := range lease.Stack {
		fmt.Fprintf(&b, "\t%s\n\t\t%s:%d\n", frame.Function, frame.File, frame.Line)
	}
	return b.String()
}

func createDatabase(tb testing.TB, s settings) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	adminURL, err := serverURL(ctx)
	if err != nil {
		tb.Fatalf("fxtest: no server for the test: %v", err)
	}
	name := databaseName(time.Now())
	if err := clone(ctx, adminURL, name, s); err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() { dropAfter(tb, adminURL, name) })
	return withDatabase(adminURL, name)
}

func clone(ctx context.Context, adminURL, name string, s settings) error {
	admin, err := connectAdmin(ctx, adminURL)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }() // it has served its purpose
	source, err := template(ctx, admin, s)
	if err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "create database "+quote(name)+" template "+quote(source)+strategy(admin)); err != nil {
		return fmt.Errorf("create database %s from %s: %w", name, source, permissionHint(err))
	}
	return nil
}

// dropAfter drops the database of a test, and reports connections that nobody closed.
func dropAfter(tb testing.TB, adminURL, name string) {
	tb.Helper()
	if tb.Failed() && os.Getenv(EnvKeep) != "" {
		tb.Logf("fxtest: kept the database of the failed test: %s", withDatabase(adminURL, name))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	admin, err := connectAdmin(ctx, adminURL)
	if err != nil {
		tb.Errorf("fxtest: drop database %s: %v", name, err)
		return
	}
	defer func() { _ = admin.Close(ctx) }() // it has served its purpose
	if err := reportOpen(ctx, tb, admin, name); err != nil {
		tb.Errorf("fxtest: look for open connections: %v", err)
	}
	if _, err := admin.Exec(ctx, "drop database if exists "+quote(name)+" with (force)"); err != nil {
		tb.Errorf("fxtest: drop database %s: %v", name, err)
	}
}

// reportOpen reports connections to the database that are open after the test. A backend takes a moment to go after its
// client has closed, and autovacuum's workers are nobody's: only client backends count, and only if they stay.
func reportOpen(ctx context.Context, tb testing.TB, admin *pgx.Conn, name string) error {
	tb.Helper()
	const leaving = 2 * time.Second
	type open struct {
		PID         uint32
		Application string
		State       *string
		Query       string
	}
	for deadline := time.Now().Add(leaving); ; {
		rows, err := admin.Query(ctx, "select pid, application_name, state, query from pg_stat_activity where datname = $1 and backend_type = 'client backend'", name)
		if err != nil {
			return fmt.Errorf("pg_stat_activity: %w", err)
		}
		left, err := pgx.CollectRows(rows, pgx.RowToStructByPos[open])
		if err != nil {
			return fmt.Errorf("pg_stat_activity: %w", err)
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			for _, conn := range left {
				tb.Errorf("fxtest: a connection to the test's database is still open: backend %d, application %q, last statement: %s",
					conn.PID, conn.Application, conn.Query)
			}
			return nil
		}
		if _, err := admin.Exec(ctx, "select pg_sleep(0.005)"); err != nil {
			return fmt.Errorf("wait for backends: %w", err)
		}
	}
}

func connectAdmin(ctx context.Context, address string) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the server's address can't be parsed")
	}
	cc.RuntimeParams["application_name"] = "fxtest"
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, fmt.Errorf("connect to the test server: %w", err)
	}
	return conn, nil
}

// withDatabase returns the address with another database.
func withDatabase(address, database string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Path = "/" + database
	return u.String()
}

// once remembers what has been seen.
type once struct {
	mu   sync.Mutex
	seen map[string]bool
}

var rebuilt once //nolint:gochecknoglobals // a process builds each template anew once

// first reports whether name is seen for the first time.
func (o *once) first(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[name] {
		return false
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	o.seen[name] = true
	return true
}
