package fxtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestTx_RollsBackAfterTest(t *testing.T) {
	t.Parallel()
	schema := fxtest.SQL("create table t (v text) /* " + time.Now().String() + " */")
	var first, second string
	for _, database := range []*string{&first, &second} {
		r := testrecorder.Run(t, func(tb testing.TB) {
			tx := fxtest.Tx(tb, schema)
			var rows int
			require.NoError(t, tx.QueryRow(t.Context(), "select count(*), current_database() from t").Scan(&rows, database))
			assert.Zero(t, rows, "rows of another test are not visible")
			_, err := tx.Exec(t.Context(), "insert into t values ('x')")
			require.NoError(t, err)
		})
		assert.Empty(t, r.Errors())
	}
	assert.Equal(t, first, second, "the tests share a database")
}

func TestTx_ReportsCommit(t *testing.T) {
	t.Parallel()
	schema := fxtest.SQL("create table t (v text) /* " + time.Now().String() + " */")
	r := testrecorder.Run(t, func(tb testing.TB) {
		tx := fxtest.Tx(tb, schema)
		_, err := tx.Exec(t.Context(), "insert into t values ('committed')")
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
	})
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "use DB or New for a test that commits")
	r = testrecorder.Run(t, func(tb testing.TB) {
		var rows int
		require.NoError(t, fxtest.Tx(tb, schema).QueryRow(t.Context(), "select count(*) from t").Scan(&rows))
		assert.Zero(t, rows, "the next test has a new database")
	})
	assert.Empty(t, r.Errors())
	assert.Len(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.Tx(tb, fxtest.SQL("nonsense")) }).Errors(), 1)
	assert.Len(t, testrecorder.Run(t, func(tb testing.TB) { fxtest.Tx(tb, fxtest.Migrate("", nil)) }).Errors(), 1)
}
