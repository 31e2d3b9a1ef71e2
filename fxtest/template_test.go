package fxtest_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func sql(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestMigrations_RunOnceInOrder(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"002_insert.sql": sql("insert into stages values (2); select pg_sleep(0.01);"),
		"001_create.sql": sql("\ufeffcreate table stages (id int); insert into stages values (1);"),
		"010_last.sql":   sql("insert into stages values (3)"),
		"010.down.sql":   sql("drop table stages"),
		"notes.txt":      sql("not a migration"),
		"sub/003.sql":    sql("subdirectories are ignored"),
	}
	var runs atomic.Int32
	version := t.Name() + time.Now().String()
	counted := fxtest.Migrate(version, func(ctx context.Context, conn *pgx.Conn) error {
		runs.Add(1)
		_, err := conn.Exec(ctx, "insert into stages values (4)")
		return err
	})
	for range 3 {
		db := fxtest.DB(t, nil, fxtest.Seeds(fstest.MapFS{"000.sql": sql("insert into stages values (5)")}), fxtest.Migrations(files), counted)
		rows, err := db.Pool().Query(t.Context(), "select id from stages order by ctid")
		require.NoError(t, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2, 3, 4, 5}, ids)
	}
	assert.EqualValues(t, 1, runs.Load(), "the template is built once")

	salted := fxtest.DB(t, fxtest.Migrations(files), counted, fxtest.Salt("another"))
	assert.EqualValues(t, 2, runs.Load(), "another salt, another template")
	assert.True(t, salted.IsHealthy())
}

func TestMigrations_ChangeSelectsNewTemplate(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"first", "second"} {
		db := fxtest.DB(t, fxtest.Migrations(fstest.MapFS{"1.sql": sql("create table t as select '" + want + "'::text as v")}))
		var got string
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select v from t").Scan(&got))
		assert.Equal(t, want, got)
	}
}

func TestExtensions_AreCreated(t *testing.T) {
	t.Parallel()
	admin := fxtest.DB(t)
	var available bool
	require.NoError(t, admin.Pool().QueryRow(t.Context(), "select exists (select from pg_available_extensions where name = 'pg_trgm')").Scan(&available))
	if !available {
		t.Skip("this installation has no contrib extensions")
	}
	db := fxtest.DB(t, fxtest.Extensions("pg_trgm"), fxtest.SQL("create table t (v text); create index on t using gin (v gin_trgm_ops)"))
	var similarity float64
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select similarity('word', 'words')").Scan(&similarity))
	assert.Positive(t, similarity)
}

func TestOptions_ReportInvalidInput(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		opt  fxtest.Option
		want []string
	}{
		"syntax error": {
			fxtest.Migrations(fstest.MapFS{"001.sql": sql("create table a (id int);\n\ncreat table b (id int);")}),
			[]string{"migration 001.sql, line 3", "creat table b", "42601"},
		},
		"failing statement": {
			fxtest.Migrations(fstest.MapFS{"001.sql": sql("select 1/0")}), []string{"migration 001.sql", "division by zero"},
		},
		"failing function": {
			fxtest.Migrate("1", func(context.Context, *pgx.Conn) error { return boom }), []string{"migration Migrate(1)", "boom"},
		},
		"missing directory":  {fxtest.Migrations(os.DirFS("no/such/dir")), []string{"migrations", "read the directory", "no such file"}},
		"no migration":       {fxtest.Migrations(fstest.MapFS{"readme.md": sql("")}), []string{"no *.sql file"}},
		"empty goose file":   {fxtest.Migrations(fstest.MapFS{"1_a.sql": sql("-- +goose Up\n-- +goose Down")}), []string{"1_a.sql has no statement"}},
		"failing goose file": {fxtest.Migrations(fstest.MapFS{"1_a.sql": sql("-- +goose Up\nselect 1;\nselect 1/0;")}), []string{"1_a.sql, line 3", "division by zero"}},
		"dbmate":             {fxtest.Seeds(fstest.MapFS{"1.sql": sql("--migrate:down transaction:false")}), []string{"seeds: 1.sql contains a down migration (--migrate:down)"}},
		"tern":               {fxtest.Migrations(fstest.MapFS{"1.sql": sql("select 1;\n\n---- create above / drop below ----\n")}), []string{"call the migration tool's own runner"}},
		"empty URL":          {fxtest.At(""), []string{"at: the URL is empty"}},
		"no version":         {fxtest.Migrate("", nil), []string{"give a version"}},
		"unknown extension":  {fxtest.Extensions("no_such_extension"), []string{"extension no_such_extension"}},
		"invalid config":     {fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MinConns: -1}}), []string{"Pool.MinConns"}},
		"unreadable file":    {fxtest.Migrations(brokenFS{}), []string{"migrations", "boom"}},
		"failing SQL option": {fxtest.SQL("insert into nowhere values (1)"), []string{"migration SQL option 1", "nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, test.opt) })
			require.Len(t, r.Errors(), 1)
			assert.True(t, strings.HasPrefix(r.Errors()[0], "fxtest: "))
			for _, want := range test.want {
				assert.Contains(t, r.Errors()[0], want)
			}
		})
	}
}

// brokenFS has a file that can't be read.
type brokenFS struct{}

func (brokenFS) Open(name string) (fs.File, error) {
	if name == "." {
		return fstest.MapFS{"a.sql": sql("")}.Open(".")
	}
	return nil, errors.New("boom")
}

func TestTemplate_IsRebuiltAfterError(t *testing.T) {
	t.Parallel()
	version := "fails once " + time.Now().String()
	fail := true
	opt := fxtest.Migrate(version, func(context.Context, *pgx.Conn) error {
		if fail {
			return errors.New("failed")
		}
		return nil
	})
	assert.NotEmpty(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, opt) }).Errors())
	fail = false
	assert.Empty(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, opt) }).Errors())
}

func TestTemplate_IsBuiltOnceForParallelTests(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	opt := fxtest.Migrate("parallel "+time.Now().String(), func(ctx context.Context, conn *pgx.Conn) error {
		runs.Add(1)
		_, err := conn.Exec(ctx, "create table t (); select pg_sleep(0.05)")
		return err
	})
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			db := fxtest.DB(t, opt)
			_, err := db.Pool().Exec(t.Context(), "select from t")
			require.NoError(t, err)
		})
	}
	t.Cleanup(func() { assert.EqualValues(t, 1, runs.Load()) })
}

func TestMigrations_RunGooseFiles(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Migrations(fstest.MapFS{
		"9_a.sql":  sql("-- +goose Up\ncreate table a (id int);\n-- +goose Down\ndrop table a;\n"),
		"10_b.sql": sql("-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently a_id on a (id);\n"),
	}))
	var count int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from pg_indexes where indexname = 'a_id'").Scan(&count))
	assert.Equal(t, 1, count)
}
