package fxtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestDB_IsolatesTests(t *testing.T) {
	t.Parallel()
	var urls []string
	for _, name := range []string{"one", "two"} {
		r := testrecorder.Run(t, func(tb testing.TB) {
			db := fxtest.DB(tb, fxtest.SQL("create table things (id int)"))
			var things int
			require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from things").Scan(&things))
			assert.Zero(t, things, "rows of another test are not visible: %s", name)
			_, err := db.Pool().Exec(t.Context(), "insert into things values (1)")
			require.NoError(t, err)
			urls = append(urls, db.Config().URL)
		})
		assert.Empty(t, r.Errors())
	}
	assert.NotEqual(t, urls[0], urls[1])
	for _, url := range urls {
		_, err := pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "3D000", "the database is dropped after its test")
	}
}

func TestEnvKeep_KeepsDatabaseOfFailedTest(t *testing.T) {
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
	assert.Empty(t, r.Logs(), "the database of a test that passes is dropped")
	_, err = pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "3D000")
}

func TestAt_RejectsMigrations(t *testing.T) {
	t.Parallel()
	r := testrecorder.Run(t, func(tb testing.TB) { fxtest.DB(tb, fxtest.At(fxtest.URL(tb)), fxtest.SQL("select 1")) })
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "an existing database has no template")
}
