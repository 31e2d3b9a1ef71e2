package migrate_test

import (
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// TestRun_RejectsBadInput runs files that are wrong on a database with version 2 applied. After each error the database is as before.
func TestRun_RejectsBadInput(t *testing.T) {
	t.Parallel()
	const up, applied = "-- +goose Up\nselect 1;\n", "-- +goose Up\ncreate table a (id int);\n"
	for name, test := range map[string]struct {
		files fstest.MapFS
		opts  []migrate.Option
		want  string
	}{
		"missing version":   {files: files("2_a.sql", applied, "users.sql", up), want: "migrate: directory .: users.sql has no version; name it like 00001_users.sql"},
		"duplicate version": {files: files("2_a.sql", applied, "3_b.sql", up, "03_c.sql", up), want: "migrate: directory .: 03_c.sql and 3_b.sql have the same version"},
		"duplicate version in Go": {
			files: files("2_a.sql", applied, "3_b.sql", up),
			opts:  []migrate.Option{migrate.WithGoMigrations(goose.NewGoMigration(3, nil, nil))},
			want:  "migrate: 3_b.sql and a Go migration have the same version",
		},
		"changed checksum": {
			files: files("2_a.sql", "-- +goose Up\ncreate table a (id bigint);\n", "3_b.sql", up),
			want:  "migrate: 2_a.sql changed after it was applied; restore the file and put the change into a new migration",
		},
		"out of order": {
			files: files("1_new.sql", up, "2_a.sql", applied),
			want:  "migrate: 1_new.sql would be applied after version 2; give it a newer version, or permit it by WithOutOfOrder",
		},
		"empty file":      {files: files("2_a.sql", applied, "3_b.sql", ""), want: `migrate: directory .: 3_b.sql has no statement after "-- +goose Up": put this line before its statements`},
		"no annotation":   {files: files("2_a.sql", applied, "3_b.sql", "select 1;"), want: `migrate: directory .: 3_b.sql has no statement after "-- +goose Up": put this line before its statements`},
		"only a comment":  {files: files("2_a.sql", applied, "3_b.sql", "-- +goose Up\n-- later\n-- +goose Down\ndrop table a;\n"), want: `migrate: directory .: 3_b.sql has no statement after "-- +goose Up": put this line before its statements`},
		"no semicolon":    {files: files("2_a.sql", applied, "3_b.sql", "-- +goose Up\nselect 1\n"), want: "migrate: directory .: 3_b.sql: line 2: the last statement has no semicolon"},
		"psql command":    {files: files("2_a.sql", applied, "3_b.sql", "-- +goose Up\n\\connect shop\nselect 1;\n"), want: `migrate: directory .: 3_b.sql: line 2: \connect is a command of psql and not SQL: remove it`},
		"empty directory": {files: files(), want: "migrate: no migration in directory .: add files such as 00001_users.sql, or correct WithDir"},
		"failing statement": {
			files: files("2_a.sql", applied, "3_b.sql", "-- +goose Up\ncreate table b (id int);\n\nselect 1 / 0; select 2;\n"),
			want:  "migrate: 3_b.sql, line 4: ERROR: division by zero (SQLSTATE 22012)",
		},
		"failing statement in one line": {
			files: files("2_a.sql", applied, "3_b.sql", "-- +goose Up\nselect 1; select 2; select 1 / 0;\n"),
			want:  "migrate: 3_b.sql, line 2: ERROR: division by zero (SQLSTATE 22012)",
		},
		"several mistakes": {
			files: files("a.sql", up, "2_a.sql", applied, "3_b.sql", "-- +goose Up\nselect 'x;\n"),
			want:  "migrate: directory .: 3_b.sql: line 2: a quoted text or comment has no end\na.sql has no version; name it like 00001_a.sql",
		},
		"unknown directory": {
			files: files("2_a.sql", applied), opts: []migrate.Option{migrate.WithDir("sql")},
			want: "migrate: directory sql is not among the files: correct WithDir, or the pattern of go:embed: list migrations: open .: file does not exist",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _ := setup(t)
			require.NoError(t, migrate.Run(t.Context(), db, files("2_a.sql", applied)))
			const state = `select concat_ws(' ', (select string_agg(tablename, ',' order by tablename) from pg_tables where schemaname = 'public'),
				(select string_agg(version_id::text, ',' order by id) from goose_db_version),
				(select string_agg(version || checksum, ',') from goose_db_version_checksums))`
			before := value[string](t, db, state)
			require.EqualError(t, migrate.Run(t.Context(), db, test.files, test.opts...), test.want)
			assert.Equal(t, before, value[string](t, db, state), "nothing is half recorded")
			require.NoError(t, migrate.Run(t.Context(), db, files("2_a.sql", applied, "3_b.sql", up)), "the corrected files apply")
		})
	}
}
