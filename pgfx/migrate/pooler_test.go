package migrate_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/testpgbouncer"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// pgBouncer returns the Config of a database behind PgBouncer with two sessions, and the URL of the same database without it.
func pgBouncer(t *testing.T) (pooled pgfx.Config, direct string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	direct = fxtest.URL(t)
	config, err := pgx.ParseConfig(direct)
	require.NoError(t, err)
	bouncer, err := testpgbouncer.Start(ctx, direct, "transaction", 2)
	if errors.Is(err, testpgbouncer.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bouncer.Stop()) })
	return pgfx.Config{URL: bouncer.URL(config.Database), Pooler: pgfx.PoolerTransaction}, direct
}

func TestRun_TableLeaseBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, _ := pgBouncer(t)
	db := started(t, pooled)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	assert.Equal(t, 2, value[int](t, db, "select count(*) from runs"))

	exec(t, db, otherTakesLease)
	more := files("4_more.sql", "-- +goose Up\ncreate table more (id int);\n")
	maps.Copy(more, usersAndJobs)
	var locked *migrate.LockedError
	err := migrate.Run(t.Context(), db, more, migrate.WithLockWait(time.Millisecond))
	require.ErrorAs(t, err, &locked)
	require.NoError(t, errors.Unwrap(locked), "the wait ended, not the ctx")
	require.Len(t, locked.Holders, 1)
	assert.Equal(t, "other-host/7", locked.Holders[0].Application)
	require.ErrorContains(t, err, "of waiting: other-host/7 (for ")
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs), "nothing is pending, so no lock is needed")

	exec(t, db, "update goose_db_version_lock set expires_at = now() - interval '1 second'")
	require.NoError(t, migrate.Run(t.Context(), db, more), "the lease of an instance that died has expired")
	assert.Empty(t, value[string](t, db, "select holder from goose_db_version_lock"), "the lease is released")
}

func TestRun_LeavesSessionsOfPgBouncerClean(t *testing.T) {
	t.Parallel()
	pooled, _ := pgBouncer(t)
	db := started(t, pooled)
	require.NoError(t, migrate.Run(t.Context(), db, files(
		"1_dump.sql", "-- +goose Up\nselect pg_catalog.set_config('search_path', '', false);\nset row_security = off;\ncreate table public.a (id int);\n",
		"2_next.sql", "-- +goose Up\ncreate table b (id int);\n",
		"3_alone.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nalter table b add column x int;\ncreate index concurrently b_x on b (x);\nvacuum b;\n"+
			"create procedure p() language plpgsql as $$ begin commit; end $$;\ncall p();\n",
	)))
	for range 20 { // checks each session that PgBouncer may assign
		settings := value[string](t, db, `select concat_ws(' ', current_setting('search_path'), current_setting('row_security'),
			current_setting('lock_timeout'), current_setting('client_connection_check_interval'))`)
		require.Equal(t, `"$user", public on 0 0`, settings)
	}
}

func TestRun_LockTimeoutBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pooled, direct := pgBouncer(t)
	db, other := started(t, pooled), started(t, pgfx.Config{URL: direct})
	exec(t, db, "create table a (id int)")
	reader := session(t, other, "report")
	_, err := reader.Exec(t.Context(), "begin; select * from a")
	require.NoError(t, err)
	for name, text := range map[string]string{
		"1_a.sql": "-- +goose Up\nalter table a add column x int;\n",
		"2_a.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nalter table a add column x int;\n",
	} {
		err = migrate.Run(t.Context(), db, files(name, text), migrate.WithLockTimeout(time.Second, 4*time.Second))
		var timeout *migrate.LockTimeoutError
		require.ErrorAs(t, err, &timeout, "%s", name)
		require.Len(t, timeout.Holders, 1, "%s", name)
		assert.EqualValues(t, reader.PgConn().PID(), timeout.Holders[0].PID)
	}
	_, err = reader.Exec(t.Context(), "commit")
	require.NoError(t, err)
}
