package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// free reports whether another session can get the lock of a key.
func free(t *testing.T, m *txn.Manager, key string) (got bool) {
	t.Helper()
	require.NoError(t, m.DB().Pool().QueryRow(t.Context(), "select pg_try_advisory_xact_lock($1)", txn.LockKey(key)).Scan(&got))
	return got
}

func TestLockKey_IsStable(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for key, want := range map[string]int64{"": -2039914840885289964, "nightly report": txn.LockKey("nightly report")} {
		assert.Equal(t, want, txn.LockKey(key), key)
		var got int64
		require.NoError(t, m.QueryRow(t.Context(),
			"select ('x' || left(encode(sha256(convert_to($1, 'UTF8')), 'hex'), 16))::bit(64)::bigint", key).Scan(&got))
		assert.Equal(t, got, txn.LockKey(key), "the documented formula gives the same number")
	}
}

func TestAdvisoryLock_LastsUntilTransactionEnds(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, txn.AdvisoryLock(ctx, "a"))
		require.NoError(t, txn.AdvisoryLock(ctx, "a"), "again")
		got, err := txn.TryAdvisoryLock(ctx, "b")
		require.NoError(t, err)
		assert.True(t, got)
		assert.False(t, free(t, m, "a"))
		assert.False(t, free(t, m, "b"))
		assert.True(t, free(t, m, "c"))
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			got, err := txn.TryAdvisoryLock(ctx, "a")
			assert.False(t, got, "another transaction holds it")
			return err
		}, txn.RequiresNew()))
		require.Error(t, m.Do(ctx, func(ctx context.Context) error {
			require.NoError(t, txn.AdvisoryLock(ctx, "c"))
			return errTest
		}, txn.Nested()))
		assert.True(t, free(t, m, "c"), "the scope was rolled back")
	})
	assert.True(t, free(t, m, "a"))
	assert.True(t, free(t, m, "b"))
}

func TestAdvisoryLock_NeedsTransaction(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, txn.AdvisoryLock(t.Context(), "a"), txn.ErrNoTransaction)
	_, err := txn.TryAdvisoryLock(t.Context(), "a")
	require.ErrorIs(t, err, txn.ErrNoTransaction)
}

func TestAdvisoryLock_WaitsUntilContextEnds(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	inTx(t, m, func(ctx context.Context) {
		require.NoError(t, txn.AdvisoryLock(ctx, "a"))
		late, expire := testctx.Expiring(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Do(late, func(ctx context.Context) error { return txn.AdvisoryLock(ctx, "a") }) }()
		require.Eventually(t, func() bool {
			var waits bool
			err := m.QueryRow(txn.Detach(ctx), `select exists (select from pg_locks where locktype = 'advisory' and not granted
				and database = (select oid from pg_database where datname = current_database()))`).Scan(&waits)
			return err == nil && waits
		}, waitTimeout, time.Millisecond)
		expire()
		err := <-ended
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, `txn: lock "a"`)
		err = m.Do(t.Context(), func(ctx context.Context) error {
			_ = fail(ctx, m, "22012")
			_, err := txn.TryAdvisoryLock(ctx, "a")
			return err
		})
		require.ErrorContains(t, err, "25P02")
	})
}
