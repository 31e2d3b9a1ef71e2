package txn_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

// hookLog records which hooks have run, in order.
type hookLog []string

// hook registers one hook of each kind with the transaction of ctx.
func (d *hookLog) hook(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	require.NoError(t, txn.BeforeCommit(ctx, func(context.Context) error { *d = append(*d, name+" before"); return nil }))
	require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { *d = append(*d, name+" after") }))
	require.NoError(t, txn.AfterRollback(ctx, func(_ context.Context, cause error) {
		*d = append(*d, fmt.Sprintf("%s rolled back: %v", name, cause))
	}))
}

func TestHooks_RunInOrderOnCommit(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	inTx(t, m, func(ctx context.Context) {
		d.hook(ctx, t, "a")
		d.hook(ctx, t, "b")
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { d.hook(ctx, t, "joined"); return nil }))
	})
	assert.Equal(t, hookLog{"a before", "b before", "joined before", "a after", "b after", "joined after"}, d)
}

func TestHooks_RunInReverseOnRollback(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	require.Error(t, m.Do(t.Context(), func(ctx context.Context) error {
		d.hook(ctx, t, "a")
		d.hook(ctx, t, "b")
		return errTest
	}))
	assert.Equal(t, hookLog{"b rolled back: " + errTest.Error(), "a rolled back: " + errTest.Error()}, d)
}

func TestHooks_NeedTransaction(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, txn.BeforeCommit(t.Context(), nil), txn.ErrNoTransaction)
	require.ErrorIs(t, txn.AfterCommit(t.Context(), nil), txn.ErrNoTransaction)
	require.ErrorIs(t, txn.AfterRollback(t.Context(), nil), txn.ErrNoTransaction)
	m := newManager(t, maxConns(1))
	var leaked context.Context
	inTx(t, m, func(ctx context.Context) { leaked = ctx }) //nolint:fatcontext // on purpose
	require.ErrorIs(t, txn.AfterCommit(leaked, nil), txn.ErrTxDone)
}

func TestHooks_FollowTheirScope(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			d.hook(ctx, t, "released")
			require.Error(t, m.Do(ctx, func(ctx context.Context) error {
				d.hook(ctx, t, "undone")
				require.NoError(t, m.Do(ctx, func(ctx context.Context) error { d.hook(ctx, t, "inside"); return nil }, txn.Nested()))
				return errTest
			}, txn.Nested()))
			return nil
		}, txn.Nested()))
		d.hook(ctx, t, "outer")
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { d.hook(ctx, t, "last"); return nil }, txn.Nested()))
	})
	assert.Equal(t, hookLog{
		"inside rolled back: " + errTest.Error(), "undone rolled back: " + errTest.Error(),
		"released before", "outer before", "last before", "released after", "outer after", "last after",
	}, d)
}

func TestBeforeCommit_RunsInTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, txn.BeforeCommit(ctx, func(ctx context.Context) error {
			d.hook(ctx, t, "added by a hook")
			return insert(ctx, m, "by a hook")
		}))
	})
	assert.Equal(t, hookLog{"added by a hook before", "added by a hook after"}, d)
	assert.Equal(t, []string{"by a hook"}, entries(t, m.DB()))
}

func TestBeforeCommit_ErrorRollsBack(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		var d hookLog
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "gone"))
			require.NoError(t, txn.BeforeCommit(ctx, func(context.Context) error { return errTest }))
			d.hook(ctx, t, "a")
			return nil
		})
		require.ErrorIs(t, err, errTest)
		assert.Equal(t, hookLog{"a rolled back: " + errTest.Error()}, d)

		assert.PanicsWithValue(t, "hook", func() {
			_ = m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"))
				return txn.BeforeCommit(ctx, func(context.Context) error { panic("hook") })
			})
		})
	})
}

func TestBeforeCommit_IsSkippedIfCommitIsImpossible(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for name, lose := range map[string]func(ctx context.Context){
		"an inner error":     func(ctx context.Context) { _ = m.Do(ctx, func(context.Context) error { return errTest }) },
		"a failed statement": func(ctx context.Context) { _, _ = m.Exec(ctx, "select 1/0") },
	} {
		var d hookLog
		err := m.Do(t.Context(), func(ctx context.Context) error {
			d.hook(ctx, t, "a")
			lose(ctx)
			return nil
		})
		require.Error(t, err, name)
		assert.Equal(t, hookLog{"a rolled back: " + err.Error()}, d, name)
	}
}

func TestAfterCommit_RunsOutsideTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := false
	require.NoError(t, m.Do(ctx, func(inner context.Context) error {
		return txn.AfterCommit(inner, func(hook context.Context) {
			ran = true
			assert.Equal(t, ctx, hook, "the hook receives the caller's context")
			assert.NoError(t, insert(hook, m, "after"), "the connection is released")
			assert.NoError(t, m.Do(hook, func(ctx context.Context) error { return insert(ctx, m, "in a new one") }))
		})
	}))
	assert.True(t, ran)
	assert.Equal(t, []string{"after", "in a new one"}, entries(t, m.DB()))
}

func TestAfterCommit_PanicStopsNoOtherHook(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	assert.PanicsWithValue(t, "hook", func() {
		inTx(t, m, func(ctx context.Context) {
			require.NoError(t, insert(ctx, m, "kept"))
			require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { panic("hook") }))
			d.hook(ctx, t, "a")
		})
	})
	assert.Equal(t, hookLog{"a before", "a after"}, d)
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
	assert.EqualValues(t, 1, m.Stats().Committed)
	requireReleased(t, m.DB())
}

func TestAfterRollback_RunsAfterPanicAndGoexit(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var d hookLog
	assert.Panics(t, func() {
		_ = m.Do(t.Context(), func(ctx context.Context) error {
			d.hook(ctx, t, "panic")
			panic("closure")
		})
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Do(context.Background(), func(ctx context.Context) error {
			_ = txn.AfterRollback(ctx, func(_ context.Context, cause error) { d = append(d, "goexit rolled back: "+cause.Error()) })
			runtime.Goexit()
			return nil
		})
	}()
	<-done
	assert.Equal(t, hookLog{
		"panic rolled back: the closure panicked or called runtime.Goexit",
		"goexit rolled back: the closure panicked or called runtime.Goexit",
	}, d)
}
