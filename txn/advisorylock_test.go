package txn_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// free reports whether the lock of a key is free, as another session sees it.
func free(t *testing.T, m *txn.Manager, key string) (got bool) {
	t.Helper()
	require.NoError(t, m.DB().Pool().QueryRow(t.Context(), "select pg_try_advisory_xact_lock($1)", txn.LockKey(key)).Scan(&got))
	return got
}

func TestLockKeysAreStable(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for key, want := range map[string]int64{"": -2039914840885289964, "nightly report": txn.LockKey("nightly report")} {
		assert.Equal(t, want, txn.LockKey(key), key)
		var got int64
		require.NoError(t, m.QueryRow(t.Context(),
			"select ('x' || left(encode(sha256(convert_to($1, 'UTF8')), 'hex'), 16))::bit(64)::bigint", key).Scan(&got))
		assert.Equal(t, got, txn.LockKey(key), "the documented formula gives the same")
	}
}

func TestALockLastsAsLongAsItsTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	inside(t, m, func(ctx context.Context) {
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
			assert.False(t, got, "another transaction has it")
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

func TestLocksNeedATransaction(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, txn.AdvisoryLock(t.Context(), "a"), txn.ErrNoTransaction)
	_, err := txn.TryAdvisoryLock(t.Context(), "a")
	require.ErrorIs(t, err, txn.ErrNoTransaction)
}

func TestALockIsWaitedForUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	inside(t, m, func(ctx context.Context) {
		require.NoError(t, txn.AdvisoryLock(ctx, "a"))
		late, expire := testctx.Expiring(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Do(late, func(ctx context.Context) error { return txn.AdvisoryLock(ctx, "a") }) }()
		require.Eventually(t, func() bool {
			var waits bool
			err := m.QueryRow(txn.Detach(ctx), `select exists (select from pg_locks where locktype = 'advisory' and not granted
				and database = (select oid from pg_database where datname = current_database()))`).Scan(&waits)
			return err == nil && waits
		}, patience, time.Millisecond)
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

func TestASessionLockExcludesOthersAndOutlivesTransactions(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(2))
	inUse := 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			assert.NoError(t, m.WithSessionLock(t.Context(), "job", func(ctx context.Context) error {
				inUse++ // the race detector watches
				defer func() { inUse-- }()
				assert.Equal(t, 1, inUse)
				for range 2 {
					assert.NoError(t, m.Do(ctx, insertOnceIn(m)))
				}
				return nil
			}))
		})
	}
	wg.Wait()
	assert.True(t, free(t, m, "job"), "it is free as soon as it has been given back")
}

func TestTryingForASessionLock(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	got, err := m.TryWithSessionLock(t.Context(), "job", func(context.Context) error {
		got, err := m.TryWithSessionLock(t.Context(), "job", unreachable(t))
		assert.False(t, got)
		require.NoError(t, err)
		return errTest
	})
	assert.True(t, got)
	assert.Equal(t, errTest, err)
	assert.True(t, free(t, m, "job"))

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, m.WithSessionLock(t.Context(), "job", func(context.Context) error {
		require.ErrorContains(t, m.WithSessionLock(ctx, "job", unreachable(t)), `txn: lock "job"`)
		return nil
	}))
	require.NoError(t, m.DB().Close(t.Context()))
	require.ErrorContains(t, m.WithSessionLock(t.Context(), "job", unreachable(t)), `txn: lock "job"`)
}

func TestASessionLockIsGivenBackWhenTheClosurePanics(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	assert.PanicsWithValue(t, "job", func() {
		_ = m.WithSessionLock(t.Context(), "job", func(context.Context) error { panic("job") })
	})
	assert.True(t, free(t, m, "job"))
}

func TestALostSessionLockEndsTheClosuresContext(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	err := m.WithSessionLock(t.Context(), "job", func(ctx context.Context) error {
		_, err := m.DB().Pool().Exec(t.Context(), "select pg_terminate_backend(pid) "+
			strings.ReplaceAll(witnessSessions, "/witness", "/lock"))
		require.NoError(t, err)
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			t.Error("nobody has noticed")
		}
		assert.ErrorIs(t, context.Cause(ctx), txn.ErrLockLost)
		return errTest
	})
	require.ErrorIs(t, err, txn.ErrLockLost)
	require.ErrorIs(t, err, errTest)
}

func TestClosingEndsWhatHoldsSessionLocks(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	stubborn := make(chan struct{})
	go func() {
		ended <- m.WithSessionLock(context.Background(), "job", func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			<-stubborn
			return context.Cause(ctx)
		})
	}()
	<-began
	short, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, m.Close(short), "closures with session locks are still running although their contexts have ended: 1")
	close(stubborn)
	require.NoError(t, m.Close(t.Context()))
	require.ErrorIs(t, <-ended, pgfx.ErrClosed)
	assert.True(t, free(t, m, "job"))
}

func TestClosingEndsWhatWaitsForSessionLocks(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	m, other := managerOf(t, db), managerOf(t, db)
	require.NoError(t, other.WithSessionLock(t.Context(), "job", func(context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- m.WithSessionLock(context.Background(), "job", unreachable(t)) }()
		waiting := func() (n int) {
			require.NoError(t, m.QueryRow(t.Context(), "select count(*) from pg_locks where locktype = 'advisory' and not granted "+
				"and database = (select oid from pg_database where datname = current_database())").Scan(&n))
			return n
		}
		require.Eventually(t, func() bool { return waiting() == 1 }, patience, time.Millisecond)
		require.NoError(t, m.Close(t.Context()))
		assert.Zero(t, waiting(), "nobody waits when Close has returned")
		err := <-ended
		require.ErrorIs(t, err, pgfx.ErrClosed)
		require.ErrorContains(t, err, `txn: lock "job"`)
		require.ErrorIs(t, m.WithSessionLock(t.Context(), "other", unreachable(t)), pgfx.ErrClosed, "nobody enters any more")
		return nil
	}))
}
