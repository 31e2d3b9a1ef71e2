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

func TestPoolUseInTx_Error(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t), txn.WithPoolUseInTx(txn.PoolUseInTxError))
	other := newManager(t)
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, insert(ctx, m, "x"))
		_, err := m.DB().Pool().Exec(ctx, "select 1")
		require.ErrorIs(t, err, txn.ErrPoolInTransaction)
		_, err = m.DB().Pool().Begin(ctx)
		require.ErrorIs(t, err, txn.ErrPoolInTransaction)

		_, err = other.DB().Pool().Exec(ctx, "select 1")
		require.NoError(t, err, "another database")
		_, err = m.DB().Pool().Exec(txn.Detach(ctx), "select 1")
		require.NoError(t, err)
		do := func(ctx context.Context) error { return insertOnce(ctx, m) }
		require.NoError(t, m.Do(txn.Detach(ctx), func(context.Context) error { return nil }))
		require.NoError(t, m.Do(ctx, do, txn.Nested()))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			_, err := m.DB().Pool().Exec(ctx, "select 1")
			require.ErrorIs(t, err, txn.ErrPoolInTransaction, "in the new transaction as well")
			_, err = m.Exec(ctx, "select 1")
			return err
		}, txn.RequiresNew()))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			_, err := m.Exec(ctx, "select 1")
			return err
		}, txn.NotSupported()))
	})
	_, err := m.DB().Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestPoolUseInTx_WarnsOncePerCaller(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	m := managerOf(t, newDB(t), txn.WithLogger(zap.New(core)))
	inTx(t, m, func(ctx context.Context) {
		for range 3 {
			_, err := m.DB().Pool().Exec(ctx, "select 1")
			require.NoError(t, err)
		}
		_, err := m.DB().Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
		_, err = m.DB().SQL().ExecContext(ctx, "select 1")
		require.NoError(t, err)
	})
	found := logs.FilterMessageSnippet("pool used with the context of a running transaction").All()
	require.Len(t, found, 3)
	for _, line := range found { // including the use through database/sql
		assert.Contains(t, line.ContextMap()["caller"], "TestPoolUseInTx_WarnsOncePerCaller")
	}
	assert.Equal(t, "txn", found[0].LoggerName)
}

func TestPoolUseInTx_Ignore(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	m := managerOf(t, newDB(t), txn.WithLogger(zap.New(core)), txn.WithPoolUseInTx(txn.PoolUseInTxIgnore))
	inTx(t, m, func(ctx context.Context) {
		_, err := m.DB().Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.Zero(t, logs.Len())
	_, err := txn.NewManager(m.DB(), txn.WithPoolUseInTx(9))
	require.ErrorContains(t, err, "WithPoolUseInTx(9)")
}
