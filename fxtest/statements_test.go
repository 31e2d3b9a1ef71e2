package fxtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// openDB opens a database without the options that fxtest.DB adds.
func openDB(t *testing.T, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(pgfx.Config{URL: fxtest.URL(t)}, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	return db
}

func TestStatements_CountsRoundTrips(t *testing.T) {
	t.Parallel()
	db := openDB(t, fxtest.Recording())
	pool, ctx := db.Pool(), t.Context()
	_, err := pool.Exec(ctx, "create table entries (n int)")
	require.NoError(t, err)

	counter := fxtest.Statements(t, db)
	assert.Empty(t, counter.Statements(), "statements before the start do not count")
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into entries values ($1)", 1)
		return err
	}))
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	batch.Queue("select 2")
	require.NoError(t, pool.SendBatch(ctx, batch).Close())
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}}))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"begin", "insert into entries values ($1)", "commit", "select 1", "select 2", `copy "entries" from stdin`,
	}, counter.Statements())
	assert.Equal(t, 5, counter.RoundTrips())
	assert.True(t, counter.AssertRoundTrips(5))
	assert.True(t, counter.AssertRoundTripsAtMost(6))

	counter.Reset()
	assert.True(t, counter.AssertRoundTrips(0))
	assert.Empty(t, counter.Statements())
}

func TestCounter_ReportsRepeatedStatements(t *testing.T) {
	t.Parallel()
	db := openDB(t, fxtest.Recording())
	messages := testrecorder.Errors(t, func(tb testing.TB) {
		counter := fxtest.Statements(tb, db)
		for _, sql := range []string{"select 'all'", "select $1::int -- one", "select $1::int -- one", "select $1::int -- one"} {
			var args []any
			if sql != "select 'all'" {
				args = []any{1}
			}
			_, err := db.Pool().Exec(t.Context(), sql, args...)
			require.NoError(t, err)
		}
		assert.False(t, counter.AssertRoundTrips(2))
		assert.False(t, counter.AssertRoundTripsAtMost(3))
	})
	const list = ":\n\tselect 'all'\n\tselect $1::int -- one (3 times)"
	assert.Equal(t, []string{"fxtest: 4 round trips, want 2" + list, "fxtest: 4 round trips, want at most 3" + list}, messages)
}

func TestStatements_CountersAreIndependent(t *testing.T) { //nolint:tparallel // the subtest must end first
	t.Parallel()
	db := openDB(t, fxtest.Recording())
	outer := fxtest.Statements(t, db)
	var inner *fxtest.Counter
	t.Run("inner", func(t *testing.T) {
		inner = fxtest.Statements(t, db)
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() { _, _ = db.Pool().Exec(t.Context(), "select 1") })
		}
		work.Wait()
	})
	_, err := db.Pool().Exec(t.Context(), "select 2")
	require.NoError(t, err)
	assert.Equal(t, 8, inner.RoundTrips())
	assert.Equal(t, 9, outer.RoundTrips())
}

func TestStatements_RequiresRecorder(t *testing.T) {
	t.Parallel()
	messages := testrecorder.Errors(t, func(tb testing.TB) { fxtest.Statements(tb, openDB(t)) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "fxtest.Recording()")
}
