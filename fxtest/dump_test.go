package fxtest_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const dumped = "\\restrict abc\nselect pg_catalog.set_config('search_path', '', false);\nset default_transaction_read_only = off;\n" +
	"create table public.a (id int);\n\\unrestrict abc\n"

func text(t *testing.T, db *pgfx.DB, query string) (value string) {
	t.Helper()
	require.NoError(t, db.Pool().QueryRow(t.Context(), query).Scan(&value))
	return value
}

func TestMigrations_StartEachFileWithCleanSession(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fstest.MapFS{
		"scripts": {"1.sql": sql(dumped), "2.sql": sql("create table b as select current_setting('search_path') as path")},
		"goose": {
			"1_a.sql": sql("-- +goose Up\n" + dumped),
			"2_b.sql": sql("-- +goose Up\ncreate table b as select current_setting('search_path') as path;\n"),
		},
	} {
		db := fxtest.DB(t, fxtest.Migrations(files))
		assert.Equal(t, `"$user", public`, text(t, db, "select path from b"), name)
	}
	report := fxtest.MigrationLocks(t, fstest.MapFS{
		"1_a.sql": sql("-- +goose Up\n" + dumped),
		"2_b.sql": sql("-- +goose Up\nselect set_config('search_path', '', false);\nalter table public.a add column x int;\n"),
		"3_c.sql": sql("-- +goose Up\nalter table a add column y int;\n"),
	}, nil)
	assert.Equal(t, []fxtest.TableLocks{{Table: "a", Modes: []string{"AccessExclusiveLock"}}}, report.Files[1].Statements[1].Tables)
	assert.Equal(t, "a", report.Files[2].Statements[0].Tables[0].Table)
}

func TestMigrations_NamePsqlCommands(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]fxtest.Option{
		`migrations: 1.sql: line 2: \connect is a command of psql and not SQL: remove it`: fxtest.Migrations(
			fstest.MapFS{"1.sql": sql("select 1;\n\\connect shop\n")}),
		`migrations: 1_a.sql: line 2: \connect is a command of psql and not SQL: remove it`: fxtest.Migrations(
			fstest.MapFS{"1_a.sql": sql("-- +goose Up\n\\connect shop\n")}),
		`SQL option 1: line 1: COPY FROM stdin needs psql`: fxtest.SQL("copy a from stdin;\n1\n\\.\n"),
		"migration 1.sql: it leaves a transaction open: end it with COMMIT, or remove its BEGIN": fxtest.Migrations(
			fstest.MapFS{"1.sql": sql("begin; select 1")}),
	} {
		recorder := testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, opt) })
		require.Len(t, recorder.Errors(), 1)
		assert.Contains(t, recorder.Errors()[0], want)
	}
}

// TestMigrations_KeepRolesOfOtherTemplates creates the same roles in several templates of the server.
func TestMigrations_KeepRolesOfOtherTemplates(t *testing.T) {
	t.Parallel()
	const roles = "create role rdsfx_fxtest_reader nologin; -- it's a comment\nCREATE USER \"rdsfx_fxtest_App\" PASSWORD 'it''s';\n"
	for _, salt := range []string{"one", "two"} {
		for name, files := range map[string]fstest.MapFS{
			"scripts": {"1.sql": sql(roles + "grant rdsfx_fxtest_reader to \"rdsfx_fxtest_App\"; create table a (id int)")},
			"goose":   {"1_a.sql": sql("-- +goose Up\n" + roles + "create table a (id int);\n")},
		} {
			db := fxtest.DB(t, fxtest.Migrations(files), fxtest.Salt(salt))
			assert.Equal(t, "2", text(t, db, "select count(*)::text from pg_roles where rolname in ('rdsfx_fxtest_reader', 'rdsfx_fxtest_App')"), name)
			assert.Equal(t, "a", text(t, db, "select 'a'::regclass::text"))
		}
	}
	recorder := testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, fxtest.SQL("create role rdsfx_fxtest_x nonsense")) })
	require.Len(t, recorder.Errors(), 1)
	assert.Contains(t, recorder.Errors()[0], "nonsense")
}

func TestMigrations_CarrySettingsAndGrantsOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.SQL(`create role rdsfx_fxtest_granted;
		do $$ declare name text := quote_ident(current_database()); begin
			execute 'alter database ' || name || ' set statement_timeout = ''61s''';
			execute 'alter database ' || name || ' set search_path = "My ""App", public';
			execute 'alter database ' || name || ' set app.tenant = ''it''''s 1=1''';
			execute 'alter role rdsfx_fxtest_granted in database ' || name || ' set work_mem = ''7MB''';
			execute 'revoke connect on database ' || name || ' from public';
			execute 'grant create on database ' || name || ' to rdsfx_fxtest_granted with grant option';
		end $$`))
	assert.Equal(t, "61s", text(t, db, "show statement_timeout"))
	assert.Equal(t, `"My ""App", public`, text(t, db, "show search_path"))
	assert.Equal(t, "it's 1=1", text(t, db, "show app.tenant"))
	assert.Equal(t, "{work_mem=7MB}", text(t, db, `select setconfig::text from pg_db_role_setting s join pg_database d on d.oid = setdatabase
		where datname = current_database() and setrole = 'rdsfx_fxtest_granted'::regrole`))
	const granted = "select has_database_privilege('rdsfx_fxtest_granted', current_database(), "
	assert.Equal(t, "true", text(t, db, granted+"'create with grant option')::text"))
	assert.Equal(t, "false", text(t, db, granted+"'connect')::text"))

	emptied := fxtest.DB(t, fxtest.SQL("do $$ begin execute format('alter database %I set search_path = ''''', current_database()); end $$"))
	assert.Equal(t, `""`, text(t, emptied, "show search_path"))
}
