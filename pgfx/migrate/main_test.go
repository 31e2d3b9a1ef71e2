package migrate_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// processURL makes the test binary migrate the database of this URL and exit.
const processURL = "RDSFX_MIGRATE_PROCESS_URL"

const (
	// processSlow makes that process run a migration that sleeps.
	processSlow = "RDSFX_MIGRATE_PROCESS_SLOW"
	// processBlocked makes it run a migration that the test blocks, with a lease that expires soon.
	processBlocked = "RDSFX_MIGRATE_PROCESS_BLOCKED"
	// processPooler is its Config.Pooler.
	processPooler = "RDSFX_MIGRATE_PROCESS_POOLER"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(processURL); url != "" {
		migrations := usersAndJobs
		var opts []migrate.Option
		switch {
		case os.Getenv(processSlow) != "":
			migrations = slow
		case os.Getenv(processBlocked) != "":
			migrations, opts = blocked, []migrate.Option{migrate.WithLease(shortLease)}
		}
		if err := migrateAsProcess(url, migrations, opts...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fxtest.Main(m)
}

func migrateAsProcess(url string, migrations fs.FS, opts ...migrate.Option) error {
	ctx := context.Background()
	cfg := pgfx.Config{URL: url, Pooler: pgfx.PoolerMode(os.Getenv(processPooler))}
	db, err := pgfx.Open(cfg, pgfx.WithSetup(migrate.Step(migrations, opts...)))
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	return db.Close(ctx)
}

func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

// usersAndJobs fails if a file is applied twice.
var usersAndJobs = files(
	"00001_users.sql", "-- +goose Up\ncreate table users (id bigint primary key, email text not null);\ncreate table runs (n int);\ninsert into runs values (1);\n"+
		"-- +goose Down\ndrop table users, runs;\n",
	"00002_jobs.sql", "-- +goose Up\ncreate table jobs (id bigint primary key);\ninsert into runs values (2);\n",
	"00003_index.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently users_email on users (email);\n",
)

// setup returns a database of an application, and what it logs.
func setup(t *testing.T) (*pgfx.DB, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	return fxtest.DB(t, fxtest.Pool(pgfx.WithLogger(zap.New(core)))), logs
}

func exec(t *testing.T, db *pgfx.DB, sql string) {
	t.Helper()
	_, err := db.Pool().Exec(t.Context(), sql)
	require.NoError(t, err)
}

func value[T any](t *testing.T, db *pgfx.DB, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, db.Pool().QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// started opens and starts a DB that is closed with the test.
func started(t *testing.T, cfg pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	require.NoError(t, db.Start(t.Context()))
	return db
}
