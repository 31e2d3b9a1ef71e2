package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/txn"
)

func TestContextCheck_Error(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t), txn.WithContextCheck(txn.PoolUseInTxError), txn.WithPoolUseInTx(txn.PoolUseInTxIgnore))
	other := newManager(t)
	outer := t.Context()
	nothing := func(context.Context) error { return nil }
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, insert(ctx, m, "inside"))
		err := insert(outer, m, "outside")
		require.ErrorIs(t, err, txn.ErrOuterContext)
		require.ErrorContains(t, err, "setup_test.go:", "the calling line")
		_, err = m.DB().Pool().Exec(outer, "select 1")
		require.ErrorIs(t, err, txn.ErrOuterContext)
		require.ErrorIs(t, m.Do(outer, nothing), txn.ErrOuterContext, "a transaction beside this one")
		require.NoError(t, m.Do(ctx, func(context.Context) error {
			require.ErrorIs(t, insert(outer, m, "outside"), txn.ErrOuterContext)
			return nil
		}, txn.Nested()))

		// These are meant.
		require.NoError(t, insert(txn.Detach(ctx), m, "detached"))
		require.NoError(t, insert(txn.Detach(outer), m, "detached outer"))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "not supported") }, txn.NotSupported()))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "new") }, txn.RequiresNew()))
		require.ErrorIs(t, insert(outer, m, "outside"), txn.ErrOuterContext, "after an inner transaction as well")
		_, err = m.DB().Pool().Exec(ctx, "select 1")
		require.NoError(t, err, "the pool in the transaction is another check")
		_, err = other.Exec(outer, "select 1")
		require.NoError(t, err, "another database")
		done := make(chan error)
		go func() { done <- insert(outer, m, "goroutine") }()
		require.NoError(t, <-done, "another goroutine is not checked")
	})
	require.NoError(t, insert(outer, m, "afterwards"))
	assert.Equal(t, []string{"afterwards", "detached", "detached outer", "goroutine", "inside", "new", "not supported"},
		entries(t, m.DB()))
	require.Panics(t, func() { _ = m.Do(outer, func(context.Context) error { panic("x") }) })
	require.NoError(t, m.Do(outer, func(ctx context.Context) error { return insert(ctx, m, "after a panic") }))
}

func TestContextCheck_WarnsOncePerCaller(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	m := managerOf(t, newDB(t), txn.WithContextCheck(txn.PoolUseInTxWarn), txn.WithLogger(zap.New(core)))
	inTx(t, m, func(context.Context) {
		for range 3 {
			_, err := m.Exec(t.Context(), "select 1")
			require.NoError(t, err)
		}
	})
	found := logs.FilterMessage("closure of a transaction uses a context that does not carry it").All()
	require.Len(t, found, 1)
	assert.Contains(t, found[0].ContextMap()["caller"], "TestContextCheck_WarnsOncePerCaller")
}

func TestContextCheck_IsOffByDefault(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	inTx(t, m, func(context.Context) { require.NoError(t, insert(t.Context(), m, "outside")) })
	assert.Equal(t, []string{"outside"}, entries(t, m.DB()))
	_, err := txn.NewManager(m.DB(), txn.WithContextCheck(9))
	require.ErrorContains(t, err, "WithContextCheck(9)")
}
