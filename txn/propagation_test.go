package txn_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

// inTx runs fn in a transaction that is committed.
func inTx(t *testing.T, m *txn.Manager, fn func(ctx context.Context)) {
	t.Helper()
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { fn(ctx); return nil }))
}

func neverCalled(t *testing.T) func(context.Context) error {
	t.Helper()
	return func(context.Context) error { t.Error("the closure ran"); return nil }
}

func TestRequiresNew_CommitsIndependently(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "outer"))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			var n int
			require.NoError(t, m.QueryRow(ctx, "select count(*) from entries").Scan(&n))
			assert.Zero(t, n, "the new transaction doesn't see changes of the outer one")
			return insert(ctx, m, "new")
		}, txn.RequiresNew()))
		require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "new and failed"))
			return errTest
		}, txn.RequiresNew(), txn.Serializable()), errTest)
		require.NoError(t, insert(ctx, m, "outer goes on"), "the outer transaction is not affected")
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Equal(t, []string{"new"}, entries(t, m.DB()))
}

func TestRequiresNew_NeedsSecondConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		require.ErrorContains(t, m.Do(ctx, neverCalled(t), txn.RequiresNew()), "MaxConns")
	})
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }, txn.RequiresNew()))
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}

func TestNested_RollsBackAlone(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, insert(ctx, m, "outer"))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "kept") }, txn.Nested()))
		require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "undone"))
			require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "undone too") }, txn.Nested()))
			return errTest
		}, txn.Nested()), errTest)
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			require.Error(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "outer") }, txn.Nested()), "a duplicate")
			return insert(ctx, m, "the failed statement's scope is gone")
		}, txn.Nested()))
	})
	assert.Equal(t, []string{"kept", "outer", "the failed statement's scope is gone"}, entries(t, m.DB()))
}

func TestNested_BeginsTransactionIfThereIsNone(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "gone"))
		return errTest
	}, txn.Nested()), errTest)
	assert.Empty(t, entries(t, m.DB()))
}

func TestNested_RecoveredPanicRollsBackAlone(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		func() {
			defer func() { assert.Equal(t, "nested", recover()) }()
			_ = m.Do(ctx, func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "undone"))
				panic("nested")
			}, txn.Nested())
		}()
		require.NoError(t, insert(ctx, m, "kept"))
	})
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
}

func TestNested_CancelledContextRollsBackAlone(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		short, cancel := context.WithCancel(ctx)
		require.ErrorIs(t, m.Do(short, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "undone"))
			cancel()
			return ctx.Err()
		}, txn.Nested()), context.Canceled)
		require.NoError(t, insert(ctx, m, "kept"))
	})
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
}

func TestNested_IgnoredErrorRollsBackAlone(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		err := m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "undone"))
			require.Error(t, m.Do(ctx, func(context.Context) error { return errTest }))
			return nil
		}, txn.Nested())
		require.ErrorIs(t, err, txn.ErrRollbackOnly)
		require.ErrorIs(t, err, errTest)

		err = m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "undone"))
			require.Error(t, insert(ctx, m, "undone"))
			return nil
		}, txn.Nested())
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
		require.NoError(t, insert(ctx, m, "kept"))
	})
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
}

func TestNested_FailedRollbackMakesRollbackOnly(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
			_, err := m.Exec(ctx, "rollback to savepoint rdsfx_1; release savepoint rdsfx_1")
			require.NoError(t, err)
			return errTest
		}, txn.Nested()), errTest)
		return nil
	})
	require.ErrorIs(t, err, txn.ErrRollbackOnly)
	require.ErrorIs(t, err, errTest)
	require.ErrorContains(t, err, "3B001", "the error names the missing savepoint")
	assert.Empty(t, entries(t, m.DB()))
}

func TestNested_OpenResultMakesRollbackOnly(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		row := m.QueryRow(ctx, "select 1")
		require.ErrorIs(t, m.Do(ctx, neverCalled(t), txn.Nested()), txn.ErrConcurrentUse, "no savepoint while a result is open")
		require.NoError(t, row.Scan(new(int)))
		require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
			m.QueryRow(ctx, "select 1")
			return nil
		}, txn.Nested()), txn.ErrConcurrentUse)
		return nil
	})
	require.ErrorIs(t, err, txn.ErrConcurrentUse)
}

func TestNested_ContextIsUnusableAfterwards(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(ctx context.Context) {
		var leaked context.Context
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			leaked = ctx //nolint:fatcontext // on purpose
			return nil
		}, txn.Nested()))
		requireRefused(leaked, t, m, nil, txn.ErrTxDone)
		require.ErrorIs(t, txn.AfterCommit(leaked, func(context.Context) {}), txn.ErrTxDone)
		require.NoError(t, insert(ctx, m, "kept"))
	})
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
}

func TestNested_RefusesTwoOpenScopes(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	inTx(t, m, func(outer context.Context) {
		require.NoError(t, m.Do(outer, func(context.Context) error {
			require.ErrorIs(t, m.Do(outer, neverCalled(t), txn.Nested()), txn.ErrConcurrentUse)
			return nil
		}, txn.Nested()))
		require.NoError(t, m.Do(outer, func(context.Context) error { return nil }, txn.Nested()))
	})
}

func TestMandatory_NeedsTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.ErrorIs(t, m.Do(t.Context(), neverCalled(t), txn.Mandatory()), txn.ErrNoTransaction)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "gone") }, txn.Mandatory()))
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Empty(t, entries(t, m.DB()))
}

func TestSupports_JoinsOrRunsWithout(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, ok := m.Tx(ctx)
		assert.False(t, ok)
		require.NoError(t, insert(ctx, m, "without"))
		return errTest
	}, txn.Supports()), errTest)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "with") }, txn.Supports()))
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Equal(t, []string{"without"}, entries(t, m.DB()))
}

func TestNotSupported_RunsOutsideTransaction(t *testing.T) {
	t.Parallel()
	m, other := newManager(t), newManager(t)
	type key struct{}
	err := other.Do(context.WithValue(t.Context(), key{}, "value"), func(ctx context.Context) error {
		return m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "in"))
			require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
				assert.Equal(t, "value", ctx.Value(key{}))
				_, ok := m.Tx(ctx)
				assert.False(t, ok)
				_, ok = other.Tx(ctx)
				assert.True(t, ok, "the transaction of the other database stays visible")
				assert.NoError(t, txn.AfterRollback(ctx, func(context.Context, error) {}), "it is now the innermost one")
				require.NoError(t, insert(ctx, m, "out"))
				require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "in a separate one") }))
				return errTest
			}, txn.NotSupported()), errTest)
			return errTest
		})
	})
	require.ErrorIs(t, err, errTest)
	assert.Equal(t, []string{"in a separate one", "out"}, entries(t, m.DB()))

	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			assert.ErrorIs(t, txn.AfterCommit(ctx, func(context.Context) {}), txn.ErrNoTransaction)
			return nil
		}, txn.NotSupported()))
	})
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }, txn.NotSupported()))
}

func TestNever_RefusesTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }, txn.Never()))
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
	inTx(t, m, func(ctx context.Context) {
		require.ErrorIs(t, m.Do(ctx, neverCalled(t), txn.Never()), txn.ErrInTransaction)
	})
}

func TestPropagation_RefusesContradictions(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, opts := range [][]txn.Option{
		{txn.Nested(), txn.RequiresNew()},
		{txn.Never(), txn.Serializable()},
		{txn.NotSupported(), txn.ReadOnly()},
	} {
		require.Error(t, m.Do(t.Context(), neverCalled(t), opts...))
	}
	_, err := txn.NewManager(m.DB(), txn.WithDefaults(txn.Mandatory()))
	require.ErrorContains(t, err, "Mandatory")
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }, txn.Required(), txn.Required()))
}

func TestDetach_KeepsOnlyValues(t *testing.T) {
	t.Parallel()
	m, other := newManager(t, maxConns(2)), newManager(t)
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	err := m.Do(ctx, func(ctx context.Context) error {
		return other.Do(ctx, func(ctx context.Context) error {
			detached := txn.Detach(ctx)
			cancel()
			require.NoError(t, detached.Err())
			assert.Equal(t, "value", detached.Value(key{}))
			_, ok := m.Tx(detached)
			assert.False(t, ok)
			_, ok = other.Tx(detached)
			assert.False(t, ok)
			require.ErrorIs(t, txn.AfterCommit(detached, func(context.Context) {}), txn.ErrNoTransaction)
			assert.NoError(t, m.Do(detached, func(ctx context.Context) error { return insert(ctx, m, "in the background") }))
			return nil
		})
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, []string{"in the background"}, entries(t, m.DB()))
}

func TestErrors_NameTheFix(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		_ = insert(ctx, m, "x")
		_ = insert(ctx, m, "x")
		return nil
	})
	require.ErrorContains(t, err, "a statement failed and its error was ignored")
	require.ErrorContains(t, err, "23505")
	failed, ok := errors.AsType[*txn.FailedStatementError](err)
	require.True(t, ok)
	assert.NotEmpty(t, (&txn.FailedStatementError{}).Error())
	assert.Error(t, failed.Unwrap())
}
