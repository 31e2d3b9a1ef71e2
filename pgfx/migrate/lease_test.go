package migrate_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	osexec "os/exec"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

const (
	// otherTakesLease makes another process the holder of the table lease.
	otherTakesLease = "update goose_db_version_lock set holder = 'other-host/7', acquired_at = now(), expires_at = now() + interval '1 hour'"
	// shortLease is renewed so often that tests need not wait, and longLease never.
	shortLease = 3 * time.Second
	longLease  = 24 * time.Hour
)

// blocked is a migration that waits until the test releases its advisory lock.
var blocked = files("1_a.sql", "-- +goose Up\ncreate table a (id int);\nselect pg_advisory_xact_lock(42);\n")

// pooledAndDirect opens a DB behind PgBouncer, with what it logs, and one on the same database without it. A session of the latter
// holds the lock on which blocked waits, and release releases it.
func pooledAndDirect(t *testing.T) (db, direct *pgfx.DB, logs *observer.ObservedLogs, release func()) {
	t.Helper()
	pooled, url := pgBouncer(t)
	core, logs := observer.New(zapcore.DebugLevel)
	db, direct = started(t, pooled, pgfx.WithLogger(zap.New(core))), started(t, pgfx.Config{URL: url})
	return db, direct, logs, block(t, direct)
}

func block(t *testing.T, direct *pgfx.DB) (release func()) {
	t.Helper()
	blocker := session(t, direct, "blocker")
	_, err := blocker.Exec(t.Context(), "select pg_advisory_lock(42)")
	require.NoError(t, err)
	return func() {
		t.Helper()
		_, err := blocker.Exec(t.Context(), "select pg_advisory_unlock_all()")
		require.NoError(t, err)
	}
}

func awaitBlocked(t *testing.T, direct *pgfx.DB) {
	t.Helper()
	require.Eventually(t, func() bool {
		return value[bool](t, direct, `select exists (select from pg_locks where locktype = 'advisory' and not granted
			and database = (select oid from pg_database where datname = current_database()))`)
	}, time.Minute, time.Millisecond)
}

// awaitRenewal waits until the lease expires later than now.
func awaitRenewal(t *testing.T, direct *pgfx.DB) {
	t.Helper()
	const expires = "select expires_at from goose_db_version_lock"
	before := value[time.Time](t, direct, expires)
	require.Eventually(t, func() bool { return value[time.Time](t, direct, expires).After(before) }, time.Minute, time.Millisecond)
}

func background(t *testing.T, run func() error) chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- run() }()
	return done
}

// assertNothingRecorded checks that no migration is recorded, and that another process still holds the lease.
func assertNothingRecorded(t *testing.T, direct *pgfx.DB) {
	t.Helper()
	assert.Equal(t, 0, value[int](t, direct, "select count(*) from goose_db_version where version_id > 0"))
	assert.Equal(t, 0, value[int](t, direct, "select count(*) from goose_db_version_checksums where statements_done is null"))
	assert.Equal(t, "other-host/7", value[string](t, direct, "select holder from goose_db_version_lock"))
}

func TestRun_LostLeaseCancelsStatement(t *testing.T) {
	t.Parallel()
	db, direct, _, _ := pooledAndDirect(t)
	done := background(t, func() error { return migrate.Run(t.Context(), db, slow, migrate.WithLease(shortLease)) })
	awaitSleep(t, direct)
	awaitRenewal(t, direct)
	exec(t, direct, otherTakesLease)
	err := <-done
	require.ErrorIs(t, err, migrate.ErrLockLost)
	require.ErrorContains(t, err, "migrate: 1_a.sql, line 3: ")
	assert.False(t, value[bool](t, direct, "select to_regclass('a') is not null"))
	assertNothingRecorded(t, direct)
}

// TestRun_LostLeaseIsNotCommitted takes the lease while no renewal is due, so that only the transaction can notice it.
func TestRun_LostLeaseIsNotCommitted(t *testing.T) {
	t.Parallel()
	db, direct, _, release := pooledAndDirect(t)
	done := background(t, func() error { return migrate.Run(t.Context(), db, blocked, migrate.WithLease(longLease)) })
	awaitBlocked(t, direct)
	exec(t, direct, otherTakesLease)
	release()
	require.ErrorIs(t, <-done, migrate.ErrLockLost)
	assert.False(t, value[bool](t, direct, "select to_regclass('a') is not null"))
	assertNothingRecorded(t, direct)
}

func TestRun_LostLeaseEndsFileWithoutTransaction(t *testing.T) {
	t.Parallel()
	db, direct, _, release := pooledAndDirect(t)
	migrations := files("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table a (id int);\n"+
		"select pg_advisory_xact_lock(42);\ncreate table b (id int);\n")
	done := background(t, func() error { return migrate.Run(t.Context(), db, migrations, migrate.WithLease(longLease)) })
	awaitBlocked(t, direct)
	exec(t, direct, otherTakesLease)
	release()
	err := <-done
	require.ErrorIs(t, err, migrate.ErrLockLost)
	require.ErrorContains(t, err, "migrate: 1_a.sql, line 4: the statement is done, but not recorded: ")
	assert.Equal(t, 1, value[int](t, direct, "select statements_done from goose_db_version_checksums where version = 1"))
	assert.False(t, value[bool](t, direct, "select to_regclass('b') is not null"))
	assertNothingRecorded(t, direct)

	exec(t, direct, "update goose_db_version_lock set expires_at = now()")
	require.NoError(t, migrate.Run(t.Context(), db, migrations), "the next holder continues")
	assert.True(t, value[bool](t, direct, "select to_regclass('b') is not null"))
}

// TestRun_LostLeaseEndsGoMigration takes the lease inside a migration in Go.
func TestRun_LostLeaseEndsGoMigration(t *testing.T) {
	t.Parallel()
	db, direct, _, _ := pooledAndDirect(t)
	acquire := func() error {
		_, err := direct.Pool().Exec(t.Context(), otherTakesLease)
		return err
	}
	for name, function := range map[string]*goose.GoFunc{
		"in a transaction":      {RunTx: func(context.Context, *sql.Tx) error { return acquire() }},
		"without a transaction": {RunDB: func(context.Context, *sql.DB) error { return acquire() }},
		"before a statement": {RunDB: func(ctx context.Context, db *sql.DB) error {
			if err := acquire(); err != nil {
				return err
			}
			_, err := db.ExecContext(ctx, "create table a (id int)")
			return err
		}},
	} {
		migration := migrate.WithGoMigrations(goose.NewGoMigration(1, function, nil))
		err := migrate.Run(t.Context(), db, files(), migration, migrate.WithLease(longLease))
		require.ErrorIs(t, err, migrate.ErrLockLost, name)
		assertNothingRecorded(t, direct)
		exec(t, direct, "update goose_db_version_lock set expires_at = now()")
	}
	assert.False(t, value[bool](t, direct, "select to_regclass('a') is not null"))
}

// TestRun_LostLeaseExplainsOtherErrors fails because another process has done the same.
func TestRun_LostLeaseExplainsOtherErrors(t *testing.T) {
	t.Parallel()
	db, direct, _, release := pooledAndDirect(t)
	migrations := files("1_a.sql", "-- +goose Up\nselect pg_advisory_xact_lock(42);\ncreate table a (id int);\n")
	done := background(t, func() error {
		return migrate.Run(t.Context(), db, migrations, migrate.WithLease(longLease))
	})
	awaitBlocked(t, direct)
	exec(t, direct, otherTakesLease)
	exec(t, direct, "create table a (id int)")
	release()
	err := <-done
	require.ErrorIs(t, err, migrate.ErrLockLost)
	require.ErrorContains(t, err, `relation "a" already exists`)
}

func TestRun_FailingRenewalsEndTheRun(t *testing.T) {
	t.Parallel()
	db, direct, logs, _ := pooledAndDirect(t)
	done := background(t, func() error { return migrate.Run(t.Context(), db, slow, migrate.WithLease(shortLease)) })
	awaitSleep(t, direct)
	exec(t, direct, "alter table goose_db_version_lock rename to away")
	err := <-done
	require.ErrorIs(t, err, migrate.ErrLockLost)
	require.ErrorContains(t, err, `relation "goose_db_version_lock" does not exist`)
	assert.NotZero(t, logs.FilterMessage("migration lock was not renewed").Len())
	assert.False(t, value[bool](t, direct, "select to_regclass('a') is not null"))
}

// TestRun_RenewsLeaseDuringTransaction renews the lease while a deferred trigger runs at the end of a transaction. Transactions of
// this server cannot by default update rows that were updated meanwhile.
func TestRun_RenewsLeaseDuringTransaction(t *testing.T) {
	t.Parallel()
	pooled, url := pgBouncer(t)
	direct := started(t, pgfx.Config{URL: url})
	exec(t, direct, `do $$ begin execute format('alter database %I set default_transaction_isolation = ''repeatable read''', current_database()); end $$`)
	exec(t, direct, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	db := started(t, pooled)
	require.Equal(t, "repeatable read", value[string](t, db, "show default_transaction_isolation"))
	release := block(t, direct)
	done := background(t, func() error {
		return migrate.Run(t.Context(), db, files("1_a.sql", `-- +goose Up
create table a (id int);
create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(42); return null; end $$;
create constraint trigger wait after insert on a deferrable initially deferred for each row execute function wait();
insert into a values (1);
`), migrate.WithLease(shortLease))
	})
	awaitBlocked(t, direct)
	awaitRenewal(t, direct)
	release()
	require.NoError(t, <-done)
	assert.Equal(t, 1, value[int](t, direct, "select count(*) from a"))
}

// TestRun_FrozenProcessLosesItsLease stops a process while it migrates, until its lease has expired and another has migrated.
func TestRun_FrozenProcessLosesItsLease(t *testing.T) {
	t.Parallel()
	pooled, url := pgBouncer(t)
	db, direct := started(t, pooled), started(t, pgfx.Config{URL: url})
	release := block(t, direct)
	var output bytes.Buffer
	process := osexec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), processURL+"="+pooled.URL, processPooler+"="+string(pooled.Pooler), processBlocked+"=1")
	process.Stderr = &output
	require.NoError(t, process.Start())
	awaitBlocked(t, direct)
	require.NoError(t, process.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\ncreate table other (id int);\n")))
	release()
	require.NoError(t, process.Process.Signal(syscall.SIGCONT))
	require.Error(t, process.Wait())
	assert.Contains(t, output.String(), migrate.ErrLockLost.Error())
	assert.False(t, value[bool](t, direct, "select to_regclass('a') is not null"))
	assert.Equal(t, 1, value[int](t, direct, "select count(*) from goose_db_version where version_id = 1"))
}

func TestRun_LogsWaitForLease(t *testing.T) {
	t.Parallel()
	db, direct, logs, _ := pooledAndDirect(t)
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", createA)))
	exec(t, direct, otherTakesLease)
	next := files("1_a.sql", createA, "2_b.sql", "-- +goose Up\ncreate table b (id int);\n")
	done := background(t, func() error { return migrate.Run(t.Context(), db, next, migrate.WithProgress(10*time.Millisecond)) })
	const message = "waiting for another instance that migrates"
	require.Eventually(t, func() bool { return logs.FilterMessage(message).Len() > 1 }, time.Minute, time.Millisecond, "repeatedly")
	assert.Contains(t, logs.FilterMessage(message).All()[1].ContextMap()["holders"].([]any)[0], "other-host/7 (for ")
	exec(t, direct, "update goose_db_version_lock set holder = '', expires_at = now()")
	require.NoError(t, <-done)

	exec(t, direct, otherTakesLease)
	next["3_c.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\ncreate table c (id int);\n")}
	ctx, cancel := context.WithCancel(t.Context())
	waits := logs.FilterMessage(message).Len()
	done = background(t, func() error { return migrate.Run(ctx, db, next) })
	require.Eventually(t, func() bool { return logs.FilterMessage(message).Len() > waits }, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestLocked_BehindPgBouncer(t *testing.T) {
	t.Parallel()
	db, direct, _, _ := pooledAndDirect(t)
	require.NoError(t, migrate.Locked(t.Context(), db, "river", func(context.Context) error { return nil }))
	acquire := func(context.Context) error {
		_, err := direct.Pool().Exec(t.Context(), "update locked_river_lock set holder = 'other-host/7', expires_at = now() + interval '1 hour'")
		return err
	}
	require.ErrorIs(t, migrate.Locked(t.Context(), db, "river", acquire), migrate.ErrLockLost)
}
