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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func sql(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	var names []string
	for _, name := range []string{"one", "two"} {
		r := testrecorder.Run(t, func(tb testing.TB) {
			db := fxtest.DB(tb, fxtest.SQL("create table things (id int)"))
			var things int
			require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from things").Scan(&things))
			assert.Zero(t, things, "what another test wrote isn't there: %s", name)
			_, err := db.Pool().Exec(t.Context(), "insert into things values (1)")
			require.NoError(t, err)
			names = append(names, db.Config().URL)
		})
		assert.Empty(t, r.Errors())
	}
	assert.NotEqual(t, names[0], names[1])
	for _, url := range names {
		_, err := pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "3D000", "dropped at the end of its test")
	}
}

func TestMigrationsRunInTheOrderOfTheirNamesAndOnce(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"002_fill.sql":   sql("insert into stages values (2); select pg_sleep(0.01);"),
		"001_create.sql": sql("\ufeffcreate table stages (id int); insert into stages values (1);"),
		"010_last.sql":   sql("insert into stages values (3)"),
		"010.down.sql":   sql("drop table stages"),
		"notes.txt":      sql("not a migration"),
		"sub/003.sql":    sql("this is not read"),
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

func TestAChangedMigrationMakesAnotherTemplate(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"first", "second"} {
		db := fxtest.DB(t, fxtest.Migrations(fstest.MapFS{"1.sql": sql("create table t as select '" + want + "'::text as v")}))
		var got string
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select v from t").Scan(&got))
		assert.Equal(t, want, got)
	}
}

func TestExtensionsAreInTheTemplate(t *testing.T) {
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

func TestBrokenInputIsToldWithItsPlace(t *testing.T) {
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
		"missing directory":   {fxtest.Migrations(os.DirFS("no/such/dir")), []string{"migrations", "can't be read", "no such file"}},
		"no migration":        {fxtest.Migrations(fstest.MapFS{"readme.md": sql("")}), []string{"no *.sql file"}},
		"goose":               {fxtest.Migrations(fstest.MapFS{"1.sql": sql("-- +goose Up\n-- +goose Down")}), []string{"1.sql goes up and down again (-- +goose Down)"}},
		"dbmate":              {fxtest.Seeds(fstest.MapFS{"1.sql": sql("--migrate:down transaction:false")}), []string{"seeds: 1.sql goes up and down again (--migrate:down)"}},
		"tern":                {fxtest.Migrations(fstest.MapFS{"1.sql": sql("select 1;\n\n---- create above / drop below ----\n")}), []string{"run the migration tool's own runner"}},
		"nowhere":             {fxtest.At(""), []string{"the address is empty"}},
		"no version":          {fxtest.Migrate("", nil), []string{"give a version"}},
		"unknown extension":   {fxtest.Extensions("no_such_extension"), []string{"extension no_such_extension"}},
		"impossible config":   {fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MinConns: -1}}), []string{"Pool.MinConns"}},
		"unreadable file":     {fxtest.Migrations(brokenFS{}), []string{"migrations", "boom"}},
		"failing seed by sql": {fxtest.SQL("insert into nowhere values (1)"), []string{"migration SQL option 1", "nowhere"}},
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

func TestABrokenTemplateIsBuiltAnewWhenItIsMended(t *testing.T) {
	t.Parallel()
	version := "mended " + time.Now().String()
	fail := true
	opt := fxtest.Migrate(version, func(context.Context, *pgx.Conn) error {
		if fail {
			return errors.New("not yet")
		}
		return nil
	})
	assert.NotEmpty(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, opt) }).Errors())
	fail = false
	assert.Empty(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, opt) }).Errors())
}

func TestAConnectionThatIsNotReturnedIsReportedWithItsStack(t *testing.T) {
	t.Parallel()
	var conn *pgxpool.Conn
	r := testrecorder.Run(t, func(tb testing.TB) {
		var err error
		conn, err = fxtest.DB(tb).Pool().Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "select 'kept'")
		require.NoError(t, err)
	})
	conn.Release() // ends what the pool's Close still waits for
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "a connection was not returned at the end of the test")
	assert.Contains(t, r.Errors()[0], "last statement: select ?")
	assert.Contains(t, r.Errors()[0], "TestAConnectionThatIsNotReturnedIsReportedWithItsStack")
	assert.Contains(t, r.Errors()[0], "database_test.go:")
}

func TestAConnectionOutsideThePoolIsReported(t *testing.T) {
	t.Parallel()
	var conn *pgx.Conn
	r := testrecorder.Run(t, func(tb testing.TB) {
		var err error
		conn, err = pgx.Connect(t.Context(), fxtest.URL(tb)+"&application_name=forgotten")
		require.NoError(t, err)
	})
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], `still open: backend`)
	assert.Contains(t, r.Errors()[0], `application "forgotten"`)
	_ = conn.Close(t.Context())
}

func TestTheDatabaseOfAFailedTestIsKeptWhenAsked(t *testing.T) {
	t.Setenv(fxtest.EnvKeep, "1")
	var url string
	r := testrecorder.Run(t, func(tb testing.TB) {
		url = fxtest.URL(tb)
		tb.Errorf("this test fails")
	})
	require.Len(t, r.Logs(), 1)
	assert.Contains(t, r.Logs()[0], url)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	name := conn.Config().Database
	require.NoError(t, conn.Close(t.Context()))
	admin := fxtest.DB(t)
	_, err = admin.Pool().Exec(t.Context(), "drop database "+name)
	require.NoError(t, err)

	r = testrecorder.Run(t, func(tb testing.TB) { url = fxtest.URL(tb) })
	assert.Empty(t, r.Logs(), "a test that passes leaves nothing")
	_, err = pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "3D000")
}

func TestManyTestsAtOnceWaitForOneTemplate(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	opt := fxtest.Migrate("many "+time.Now().String(), func(ctx context.Context, conn *pgx.Conn) error {
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

func TestMigrationsAndAnAddressExcludeEachOther(t *testing.T) {
	t.Parallel()
	r := testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, fxtest.At(fxtest.URL(tb)), fxtest.SQL("select 1")) })
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "At leads to a database that exists")
}
