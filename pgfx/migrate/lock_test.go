package migrate_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// session opens a session that is closed with the test.
func session(t *testing.T, db *pgfx.DB, purpose string) *pgx.Conn {
	t.Helper()
	conn, err := db.Connect(t.Context(), purpose)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestRun_NamesHolderOfMigrationLock(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	holder := session(t, db, "other")
	_, err := holder.Exec(t.Context(), "select pg_advisory_lock(hashtextextended('rdsfx.migrate:goose_db_version', 0))")
	require.NoError(t, err)
	err = migrate.Run(t.Context(), db, usersAndJobs, migrate.WithLockWait(100*time.Millisecond))
	var locked *migrate.LockedError
	require.ErrorAs(t, err, &locked)
	require.Len(t, locked.Holders, 1)
	assert.EqualValues(t, holder.PgConn().PID(), locked.Holders[0].PID)
	assert.Contains(t, locked.Holders[0].Application, "/other")
	require.ErrorContains(t, err, "migrate: another instance holds the migration lock after")
	require.ErrorContains(t, err, locked.Holders[0].String())
	require.NoError(t, errors.Unwrap(locked), "the wait ended, not the ctx")
	assert.Equal(t, 1, logs.FilterMessage("waiting for another instance that migrates").Len())

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(assert.AnError)
	require.Error(t, migrate.Run(ctx, db, usersAndJobs))
}

// TestRun_WaiterDoesNotBlockConcurrentIndex holds the migration lock in one session, as a migrating instance does, lets another
// instance wait for it, and builds an index concurrently. That would hang if the waiter held a snapshot.
func TestRun_WaiterDoesNotBlockConcurrentIndex(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	exec(t, db, "create table a (id int)")
	holder := session(t, db, "other")
	_, err := holder.Exec(t.Context(), "select pg_advisory_lock(hashtextextended('rdsfx.migrate:goose_db_version', 0))")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- migrate.Run(t.Context(), db, usersAndJobs) }()
	require.Eventually(t, func() bool { return logs.FilterMessage("waiting for another instance that migrates").Len() == 1 },
		time.Minute, time.Millisecond)
	_, err = holder.Exec(t.Context(), "create index concurrently a_id on a (id)")
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), "select pg_advisory_unlock_all()")
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestRun_LockTimeoutNamesBlockers(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"in a transaction":      "-- +goose Up\ncreate table b (id int);\nalter table a add column x int;\n",
		"without a transaction": "-- +goose NO TRANSACTION\n-- +goose Up\nalter table a add column x int;\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _ := setup(t)
			exec(t, db, "create table a (id int)")
			reader := session(t, db, "report")
			_, err := reader.Exec(t.Context(), "begin; select * from a")
			require.NoError(t, err)
			err = migrate.Run(t.Context(), db, files("1_a.sql", text), migrate.WithLockTimeout(time.Second, 4*time.Second))
			var timeout *migrate.LockTimeoutError
			require.ErrorAs(t, err, &timeout)
			assert.Greater(t, timeout.Attempts, 1)
			require.Len(t, timeout.Holders, 1)
			assert.EqualValues(t, reader.PgConn().PID(), timeout.Holders[0].PID)
			assert.Equal(t, "idle in transaction", timeout.Holders[0].State)
			require.ErrorContains(t, err, "blocked by "+timeout.Holders[0].String())
			assert.False(t, value[bool](t, db, "select to_regclass('b') is not null"), "nothing is half done")
		})
	}
}

func TestRun_RepeatsUntilLockIsFree(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	exec(t, db, "create table a (id int)")
	reader := session(t, db, "report")
	_, err := reader.Exec(t.Context(), "begin; select * from a")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- migrate.Run(t.Context(), db, files("1_a.sql", "-- +goose Up\nalter table a add column x int;\n"),
			migrate.WithLockTimeout(50*time.Millisecond, time.Minute))
	}()
	require.Eventually(t, func() bool { return logs.FilterMessage("migration waits for a lock").Len() > 0 }, time.Minute, time.Millisecond)
	_, err = reader.Exec(t.Context(), "commit")
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestRun_DataStatementsWaitLonger(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	text := "-- +goose Up\ncreate table limits (of text, value text);\n" +
		"insert into limits values ('insert', current_setting('lock_timeout'));\n" +
		"-- a comment\n/* and another */ alter table limits add column x text default current_setting('lock_timeout');\n" +
		"insert into limits values ('again', current_setting('lock_timeout'));\n"
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", text),
		migrate.WithLockTimeout(700*time.Millisecond, time.Minute), migrate.WithDataLockTimeout(9*time.Second)))
	assert.Equal(t, "9s", value[string](t, db, "select value from limits where of = 'insert'"))
	assert.Equal(t, "700ms", value[string](t, db, "select x from limits where of = 'insert'"))
	assert.Equal(t, "9s", value[string](t, db, "select value from limits where of = 'again'"))
}

// slow is a migration that sleeps.
var slow = files("1_a.sql", "-- +goose Up\ncreate table a (id int);\nselect pg_sleep(60);\n")

func awaitSleep(t *testing.T, db *pgfx.DB) {
	t.Helper()
	require.Eventually(t, func() bool {
		return value[int](t, db, `select count(*) from pg_stat_activity
			where query like 'select pg_sleep(60)%' and datname = current_database()`) == 1
	}, time.Minute, time.Millisecond)
}

func TestRun_EndsWhenLockIsLost(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	done := make(chan error, 1)
	go func() { done <- migrate.Run(t.Context(), db, slow) }()
	awaitSleep(t, db)
	assert.Equal(t, 1, value[int](t, db, `select count(pg_terminate_backend(pid)) from pg_stat_activity
		where application_name like '%/migration-lock' and datname = current_database()`))
	require.ErrorIs(t, <-done, migrate.ErrLockLost)
	assert.False(t, value[bool](t, db, "select to_regclass('a') is not null"))
}

func TestLocked_ExcludesOthers(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	var inside, total atomic.Int32
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			assert.NoError(t, migrate.Locked(t.Context(), db, "river", func(context.Context) error {
				assert.EqualValues(t, 1, inside.Add(1))
				total.Add(1)
				inside.Add(-1)
				return nil
			}))
		})
	}
	group.Wait()
	assert.EqualValues(t, 5, total.Load())
	require.ErrorIs(t, migrate.Locked(t.Context(), db, "river", func(context.Context) error { return assert.AnError }), assert.AnError)
}
