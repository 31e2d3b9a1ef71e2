package fxtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// EnvKeep names the variable that keeps the database of a failed test and logs its URL.
const EnvKeep = "RDSFX_TEST_KEEP"

const (
	// setupTimeout bounds how long a test waits for its database, including the start of a server.
	setupTimeout = time.Minute
	// cleanupTimeout bounds closing and dropping after a test.
	cleanupTimeout = 20 * time.Second
)

// URL creates a database for the test, cloned from the template that opts describe, and returns its URL. The database is
// dropped at the end of the test, after the test's own cleanups. Connections that are still open by then are reported as
// errors of the test.
func URL(tb testing.TB, opts ...Option) string {
	tb.Helper()
	return databaseURL(tb, mustCollect(tb, opts))
}

// DB creates a database for the test, as [URL] does, and returns a started *pgfx.DB for it. At the end of the test, the pool
// is closed. Connections that were not released and goroutines that are still running are reported as errors of the test.
func DB(tb testing.TB, opts ...Option) *pgfx.DB {
	tb.Helper()
	s := mustCollect(tb, opts)
	cfg := s.config
	cfg.URL = databaseURL(tb, s)
	label := labelGoroutine()
	db, err := pgfx.Open(cfg, append(s.pool, Recording())...)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if err := db.Start(ctx); err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() { closeAndReport(tb, db, label, db.Close) })
	return db
}

// databaseURL returns the URL given to [At], or else that of a new database.
func databaseURL(tb testing.TB, s settings) string {
	tb.Helper()
	if s.url != "" {
		return s.url
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	adminURL, err := serverURL(ctx)
	if err != nil {
		tb.Fatalf("fxtest: no server for the test: %v", err)
	}
	name := newDatabaseName(time.Now())
	if err := cloneTemplate(ctx, adminURL, name, s); err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() { dropDatabase(tb, adminURL, name) })
	return withDatabase(adminURL, name)
}

func cloneTemplate(ctx context.Context, adminURL, name string, s settings) error {
	admin, err := connect(ctx, adminURL)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }() // no longer needed
	source, err := prepareTemplate(ctx, admin, s)
	if err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "create database "+quote(name)+" template "+quote(source)+copyStrategy(admin)); err != nil {
		return fmt.Errorf("create database %s from %s: %w", name, source, permissionHint(err))
	}
	if source == emptyTemplate {
		return nil
	}
	if err := copyDatabaseSettings(ctx, admin, source, name); err != nil {
		_, dropErr := admin.Exec(context.WithoutCancel(ctx), "drop database if exists "+quote(name))
		return errors.Join(err, dropErr)
	}
	return nil
}

// dropDatabase drops the database of a test and reports connections that are still open.
func dropDatabase(tb testing.TB, adminURL, name string) {
	tb.Helper()
	if tb.Failed() && os.Getenv(EnvKeep) != "" {
		tb.Logf("fxtest: kept the database of the failed test: %s", withDatabase(adminURL, name))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	admin, err := connect(ctx, adminURL)
	if err != nil {
		tb.Errorf("fxtest: drop database %s: %v", name, err)
		return
	}
	defer func() { _ = admin.Close(ctx) }() // no longer needed
	if err := reportOpenConnections(ctx, tb, admin, name); err != nil {
		tb.Errorf("fxtest: query open connections: %v", err)
	}
	if _, err := admin.Exec(ctx, "drop database if exists "+quote(name)+" with (force)"); err != nil {
		tb.Errorf("fxtest: drop database %s: %v", name, err)
	}
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the server's URL can't be parsed") // err may contain the password
	}
	cc.RuntimeParams["application_name"] = "fxtest"
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, fmt.Errorf("connect to the test server: %w", err)
	}
	return conn, nil
}

// withDatabase returns the URL with another database.
func withDatabase(serverURL, database string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		return serverURL
	}
	u.Path = "/" + database
	return u.String()
}
