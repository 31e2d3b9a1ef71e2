package migrate_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

const createA = "-- +goose Up\ncreate table a (id int);\n"

func TestRun_CancelledLeavesNothing(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrate.Run(ctx, db, slow) }()
	awaitSleep(t, db)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "migrate: 1_a.sql, line 3: context canceled")
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", createA)))
}

func TestRun_DeadlineExplainsWhatToDo(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := migrate.Run(ctx, db, slow)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "raise fx.StartTimeout, or run migrations in a job")
}

// TestRun_CancelledWithoutTransactionContinues stops a file in its second statement. The next run begins with that statement.
func TestRun_CancelledWithoutTransactionContinues(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	text := "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table a (id int);\nselect pg_sleep(60);\ncreate table b (id int);\n"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrate.Run(ctx, db, files("1_a.sql", text)) }()
	awaitSleep(t, db)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "statements before this one are kept, and the next run continues here")
	pending, err := migrate.Pending(t.Context(), db, files("1_a.sql", text))
	require.NoError(t, err)
	assert.Equal(t, []string{"1_a.sql"}, pending)

	shorter := "-- +goose NO TRANSACTION\n-- +goose Up\ncreate table a (id int);\nselect 1;\ncreate table b (id int);\n"
	require.NoError(t, migrate.Run(t.Context(), db, files("1_a.sql", shorter)), "statements that follow may change")
	continued := logs.FilterMessage("continuing an interrupted migration").All()
	require.Len(t, continued, 1)
	assert.EqualValues(t, 1, continued[0].ContextMap()["statements_done"])
	assert.True(t, value[bool](t, db, "select to_regclass('b') is not null"))
}

// TestRun_CancelledConcurrentIndexIsReplaced interrupts CREATE INDEX CONCURRENTLY, which leaves an invalid index.
func TestRun_CancelledConcurrentIndexIsReplaced(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"plain":         `create index concurrently "A id" on public.a using btree (id);`,
		"if not exists": `create unique index concurrently if not exists "A id" on only a (id);`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, logs := setup(t)
			exec(t, db, "create table a (id int)")
			writer := session(t, db, "writer")
			_, err := writer.Exec(t.Context(), "begin; insert into a values (1)")
			require.NoError(t, err)
			migrations := files("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\n"+statement+"\n")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- migrate.Run(ctx, db, migrations, migrate.WithProgress(10*time.Millisecond)) }()
			progress := awaitLog(t, logs, "migration statement is still running", func(fields map[string]any) bool { return fields["phase"] != nil })
			assert.Equal(t, "1_a.sql", progress["file"])
			assert.EqualValues(t, 3, progress["line"])
			assert.Equal(t, "waiting for writers before build", progress["phase"])
			assert.Contains(t, progress["blockers"].([]any)[0], "/writer")
			cancel()
			require.ErrorContains(t, <-done, `invalid indexes: ["A id"]`)
			_, err = writer.Exec(t.Context(), "commit")
			require.NoError(t, err)

			require.NoError(t, migrate.Run(t.Context(), db, migrations))
			assert.Equal(t, 1, value[int](t, db, "select count(*) from pg_index where indrelid = 'a'::regclass and indisvalid"))
			assert.Equal(t, 1, value[int](t, db, "select count(*) from pg_index where indrelid = 'a'::regclass"))
		})
	}
}

// awaitLog waits for a log entry whose fields match, and returns them.
func awaitLog(t *testing.T, logs *observer.ObservedLogs, message string, match func(fields map[string]any) bool) (found map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, entry := range logs.FilterMessage(message).All() {
			if found = entry.ContextMap(); match(found) {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond, message)
	return found
}

func TestRun_LogsProgressOfStatement(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrate.Run(ctx, db, slow, migrate.WithProgress(10*time.Millisecond)) }()
	sleeps := func(fields map[string]any) bool { return fields["wait"] == "Timeout: PgSleep" }
	progress := awaitLog(t, logs, "migration statement is still running", sleeps)
	assert.Equal(t, "1_a.sql", progress["file"])
	assert.EqualValues(t, 3, progress["line"])
	assert.Positive(t, progress["elapsed"])
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestRun_CancelledWhileItWaitsForTheLock(t *testing.T) {
	t.Parallel()
	db, logs := setup(t)
	holder := session(t, db, "other")
	_, err := holder.Exec(t.Context(), "select pg_advisory_lock(hashtextextended('rdsfx.migrate:goose_db_version', 0))")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrate.Run(ctx, db, usersAndJobs, migrate.WithProgress(10*time.Millisecond)) }()
	require.Eventually(t, func() bool { return logs.FilterMessage("waiting for another instance that migrates").Len() > 1 },
		time.Minute, time.Millisecond, "the wait is logged repeatedly")
	cancel()
	err = <-done
	require.ErrorIs(t, err, context.Canceled)
	var locked *migrate.LockedError
	require.ErrorAs(t, err, &locked)
	require.Len(t, locked.Holders, 1, "the holder is named")
	_, err = holder.Exec(t.Context(), "select pg_advisory_unlock_all()")
	require.NoError(t, err)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
}

// TestStep_StopsWithTheDatabase closes a DB whose migrations run in the background.
func TestStep_StopsWithTheDatabase(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	db, err := pgfx.Open(pgfx.Config{URL: url, Start: pgfx.StartConfig{Mode: pgfx.StartLazy}}, pgfx.WithSetup(migrate.Step(slow)))
	require.NoError(t, err)
	require.NoError(t, db.Start(t.Context()))
	observing := started(t, pgfx.Config{URL: url})
	awaitSleep(t, observing)
	require.NoError(t, db.Close(t.Context()))
	require.NoError(t, migrate.Run(t.Context(), observing, files("1_a.sql", createA)), "nothing is left of the migration")
}

// TestStep_CheckMakesInstancesWait starts an instance in mode check with a database that a job has not migrated yet.
func TestStep_CheckMakesInstancesWait(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	step := pgfx.WithSetup(migrate.Step(usersAndJobs, migrate.WithMode(migrate.ModeCheck)))
	var pending *migrate.PendingError
	for _, mode := range []pgfx.StartMode{pgfx.StartRequire, pgfx.StartOptional} {
		db, err := pgfx.Open(pgfx.Config{URL: url, Start: pgfx.StartConfig{Mode: mode}}, step)
		require.NoError(t, err)
		err = db.Start(t.Context())
		require.ErrorAs(t, err, &pending, "%s fails", mode)
		require.ErrorContains(t, err, `pgfx: setup step "migrations": migrate: 3 migrations are pending (00001_users.sql, 00002_jobs.sql, 00003_index.sql); run the migration job`)
	}
	lazy := started(t, pgfx.Config{
		URL: url, Start: pgfx.StartConfig{Mode: pgfx.StartLazy}, Retry: pgfx.RetryConfig{Delay: time.Millisecond, MaxDelay: time.Millisecond},
	}, step)
	require.Eventually(t, func() bool {
		_, err := lazy.Pool().Exec(t.Context(), "select from users")
		return assert.ErrorIs(t, err, pgfx.ErrSetupNotFinished) && errors.As(err, &pending)
	}, time.Minute, time.Millisecond, "the pool names what the application waits for")
	assert.False(t, lazy.IsInitialized())

	job := started(t, pgfx.Config{URL: url})
	require.NoError(t, migrate.Run(t.Context(), job, usersAndJobs))
	require.NoError(t, lazy.AwaitReady(t.Context()), "the job was the only thing missing")
	exec(t, lazy, "select from users")
}
