package txn_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestSessionLock_ExcludesOthersAcrossTransactions(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(2))
	inUse := 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			assert.NoError(t, m.WithSessionLock(t.Context(), "job", func(ctx context.Context) error {
				inUse++ // checked by the race detector
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
	assert.True(t, free(t, m, "job"), "the lock is free as soon as it is released")
}

func TestSessionLock_TryDoesNotWait(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	got, err := m.TryWithSessionLock(t.Context(), "job", func(context.Context) error {
		got, err := m.TryWithSessionLock(t.Context(), "job", neverCalled(t))
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
		require.ErrorContains(t, m.WithSessionLock(ctx, "job", neverCalled(t)), `txn: lock "job"`)
		return nil
	}))
	require.NoError(t, m.DB().Close(t.Context()))
	require.ErrorContains(t, m.WithSessionLock(t.Context(), "job", neverCalled(t)), `txn: lock "job"`)
}

func TestSessionLock_IsReleasedAfterPanic(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	assert.PanicsWithValue(t, "job", func() {
		_ = m.WithSessionLock(t.Context(), "job", func(context.Context) error { panic("job") })
	})
	assert.True(t, free(t, m, "job"))
}

func TestSessionLock_LossEndsContextOfClosure(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	err := m.WithSessionLock(t.Context(), "job", func(ctx context.Context) error {
		_, err := m.DB().Pool().Exec(t.Context(), "select pg_terminate_backend(pid) "+
			strings.ReplaceAll(witnessSessions, "/witness", "/lock"))
		require.NoError(t, err)
		select {
		case <-ctx.Done():
		case <-time.After(waitTimeout):
			t.Error("the loss was not detected")
		}
		assert.ErrorIs(t, context.Cause(ctx), txn.ErrLockLost)
		return errTest
	})
	require.ErrorIs(t, err, txn.ErrLockLost)
	require.ErrorIs(t, err, errTest)
}

func TestSessionLock_CloseEndsHolders(t *testing.T) {
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

func TestSessionLock_CloseEndsWaiters(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	m, other := managerOf(t, db), managerOf(t, db)
	require.NoError(t, other.WithSessionLock(t.Context(), "job", func(context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- m.WithSessionLock(context.Background(), "job", neverCalled(t)) }()
		waiting := func() (n int) {
			require.NoError(t, m.QueryRow(t.Context(), "select count(*) from pg_stat_activity where state = 'idle' "+
				"and query like '%pg_try_advisory_lock%' and datname = current_database()").Scan(&n))
			return n
		}
		require.Eventually(t, func() bool { return waiting() == 2 }, waitTimeout, time.Millisecond, "the holder and the waiting session")
		require.NoError(t, m.Close(t.Context()))
		require.Eventually(t, func() bool { return waiting() == 1 }, waitTimeout, time.Millisecond,
			"no session waits for a lock after Close has returned")
		err := <-ended
		require.ErrorIs(t, err, pgfx.ErrClosed)
		require.ErrorContains(t, err, `txn: lock "job"`)
		require.ErrorIs(t, m.WithSessionLock(t.Context(), "other", neverCalled(t)), pgfx.ErrClosed, "no closure can start after Close")
		return nil
	}))
}

func TestSessionLock_WaitIsIdleBetweenAttempts(t *testing.T) {
	t.Parallel()
	m := newManager(t, func(c *pgfx.Config) { c.Timeouts.Statement = time.Second })
	acquired := make(chan error, 1)
	require.NoError(t, m.WithSessionLock(t.Context(), "job", func(context.Context) error {
		go func() {
			acquired <- m.WithSessionLock(t.Context(), "job", func(context.Context) error { return nil })
		}()
		attempts := 0
		var last time.Time
		require.Eventually(t, func() bool { // attempts continue beyond the statement timeout
			var snapshots int
			var query time.Time
			if err := m.QueryRow(t.Context(), `select coalesce(max(query_start), now()),
				count(*) filter (where state = 'idle' and (backend_xmin is not null or backend_xid is not null))
				from pg_stat_activity where query like '%pg_try_advisory_lock%' and pid <> pg_backend_pid()
				and datname = current_database()`).Scan(&query, &snapshots); err != nil {
				return false
			}
			assert.Zero(t, snapshots)
			if !query.Equal(last) {
				attempts, last = attempts+1, query
			}
			return attempts > 15
		}, waitTimeout, 10*time.Millisecond)
		return nil
	}))
	require.NoError(t, <-acquired)
}
