package txn_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

func TestDo_InnerDoJoins(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "outer"))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "inner") }))
		tx, _ := m.Tx(ctx)
		n, err := txn.DoValue(ctx, m, func(ctx context.Context) (int, error) {
			inner, ok := m.Tx(ctx)
			assert.True(t, ok)
			assert.Same(t, tx, inner)
			return 1, nil
		})
		assert.Equal(t, 1, n)
		return err
	}))
	assert.Equal(t, []string{"inner", "outer"}, entries(t, m.DB()))
}

func TestRollbackOnly_AfterIgnoredInnerError(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "outer"))
			require.ErrorIs(t, m.Do(ctx, func(context.Context) error { return errTest }), errTest)
			require.Error(t, m.Do(ctx, func(context.Context) error { return errors.New("a later one") }))
			require.NoError(t, insert(ctx, m, "afterwards"), "the transaction can still be used")
			return nil
		})
		require.ErrorIs(t, err, txn.ErrRollbackOnly)
		require.ErrorIs(t, err, errTest)
		only, ok := errors.AsType[*txn.RollbackOnlyError](err)
		require.True(t, ok)
		assert.Equal(t, errTest, only.Cause)
		assert.ErrorContains(t, err, errTest.Error())
	})
}

func TestRollbackOnly_ReturnedInnerErrorIsUnchanged(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			return m.Do(ctx, func(context.Context) error { return errTest })
		})
		assert.Equal(t, errTest, err)
	})
}

func TestRollbackOnly_AfterRecoveredInnerPanic(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			func() {
				defer func() { assert.Equal(t, "inner", recover()) }()
				_ = m.Do(ctx, func(ctx context.Context) error {
					require.NoError(t, insert(ctx, m, "half done"))
					panic("inner")
				})
			}()
			return nil
		})
		require.ErrorIs(t, err, txn.ErrRollbackOnly)
	})
}

func TestRollbackOnly_AfterInnerGoexit(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			var wg sync.WaitGroup
			wg.Go(func() {
				_ = m.Do(ctx, func(context.Context) error {
					runtime.Goexit()
					return nil
				})
			})
			wg.Wait()
			return nil
		})
		require.ErrorIs(t, err, txn.ErrRollbackOnly)
	})
}

func TestOptionMismatch_IsAnError(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, tt := range []struct {
		name         string
		outer, inner []txn.Option
		conflict     txn.OptionMismatchError
	}{
		{
			"isolation",
			[]txn.Option{txn.RepeatableRead()},
			[]txn.Option{txn.Serializable()},
			txn.OptionMismatchError{Option: "isolation level", Running: "repeatable read", Wanted: "serializable"},
		},
		{
			"isolation that the outer Do did not set", nil,
			[]txn.Option{txn.Isolation(pgx.ReadCommitted)},
			txn.OptionMismatchError{Option: "isolation level", Running: "", Wanted: "read committed"},
		},
		{
			"read-write inside read-only",
			[]txn.Option{txn.ReadOnly()},
			[]txn.Option{txn.ReadWrite()},
			txn.OptionMismatchError{Option: "access mode", Running: "read only", Wanted: "read write"},
		},
		{
			"read-only inside read-write", nil,
			[]txn.Option{txn.ReadOnly()},
			txn.OptionMismatchError{Option: "access mode", Running: "", Wanted: "read only"},
		},
		{
			"deferrable", nil,
			[]txn.Option{txn.Deferrable()},
			txn.OptionMismatchError{Option: "deferrable mode", Running: "", Wanted: "deferrable"},
		},
	} {
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			err := m.Do(ctx, func(context.Context) error { t.Error("the closure ran"); return nil }, tt.inner...)
			require.ErrorIs(t, err, txn.ErrOptionMismatch, tt.name)
			conflict, ok := errors.AsType[*txn.OptionMismatchError](err)
			require.True(t, ok, tt.name)
			assert.Equal(t, tt.conflict, *conflict, tt.name)
			assert.ErrorContains(t, err, "set it on the outermost Do", tt.name)
			return nil
		}, tt.outer...), "the running transaction continues")
	}
}

func TestOptionMismatch_EqualOptionsJoin(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithDefaults(txn.Serializable()))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, m.Do(ctx, func(context.Context) error { return nil }))
		return m.Do(ctx, func(context.Context) error { return nil }, txn.Serializable(), txn.ReadOnly())
	}, txn.ReadOnly()))
}
