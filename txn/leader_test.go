package txn_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// term is a call of the function of Lead, which returns when result is sent.
type term struct {
	ctx    context.Context //nolint:containedctx // of the function
	leader *txn.Leader
	result chan error
}

// campaign calls Lead in the background. Each term arrives at terms, and Lead's error at ended. The end of the test ends Lead.
func campaign(t *testing.T, m *txn.Manager) (terms chan term, ended chan error) {
	t.Helper()
	terms, ended = make(chan term), make(chan error, 1)
	end, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		ended <- m.Lead(end, "job", func(ctx context.Context, leader *txn.Leader) error {
			current := term{ctx, leader, make(chan error, 1)}
			select {
			case terms <- current:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case err := <-current.result:
				return err
			case <-end.Done():
				return nil
			}
		})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return terms, ended
}

func next(t *testing.T, terms chan term) term {
	t.Helper()
	select {
	case current := <-terms:
		return current
	case <-time.After(waitTimeout):
		require.Fail(t, "no leader was elected")
		return term{}
	}
}

func requireLost(t *testing.T, current term) {
	t.Helper()
	select {
	case <-current.ctx.Done():
		require.ErrorIs(t, context.Cause(current.ctx), txn.ErrLockLost)
	case <-time.After(waitTimeout):
		require.Fail(t, "the loss was not detected")
	}
}

func terminateLeader(t *testing.T, db *pgfx.DB) {
	t.Helper()
	var n int
	require.NoError(t, db.Pool().QueryRow(t.Context(), `select count(pg_terminate_backend(pid)) from pg_locks
		where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())`).Scan(&n))
	require.Equal(t, 1, n)
}

// fenced inserts a name in a transaction that leader fences.
func fenced(ctx context.Context, m *txn.Manager, leader *txn.Leader, name string) error {
	return m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, name) }, txn.Fenced(leader))
}

func TestLead_ElectsOneAtATime(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	first, second := managerOf(t, db), managerOf(t, db)
	terms, ended := campaign(t, first)
	current := next(t, terms)
	others, _ := campaign(t, second)
	require.NoError(t, fenced(current.ctx, first, current.leader, "first"))
	require.EqualValues(t, 1, current.leader.Epoch())
	require.Equal(t, "job", current.leader.Name())
	current.result <- errTest
	require.ErrorIs(t, <-ended, errTest)

	replaced := next(t, others)
	require.EqualValues(t, 2, replaced.leader.Epoch())
	require.NoError(t, fenced(replaced.ctx, second, replaced.leader, "second"))
	require.ErrorIs(t, fenced(t.Context(), first, current.leader, "stale"), txn.ErrNotLeader)
	assert.Equal(t, []string{"first", "second"}, entries(t, db))
}

func TestLead_LossIsNoticedAndAnotherIsElected(t *testing.T) {
	t.Parallel()
	assert.Less(t, txn.LeaderLossTime, time.Second)
	own := faults.NewServer(t)
	proxy := faults.NewProxy(t, own.URL())
	m, direct := managerOf(t, openDB(t, proxy.URL())), openDB(t, own.URL(), maxConns(2))
	terms, _ := campaign(t, m)
	epoch := int64(0)
	for _, tt := range []struct {
		name         string
		strike, heal func()
	}{
		{"backend terminated", func() { terminateLeader(t, direct) }, func() {}},
		{"connection reset", proxy.ResetConnections, func() {}},
		{"half-open", proxy.BlackHoleAll, proxy.Heal},
		{"server killed", own.Kill, own.Restart},
	} {
		current := next(t, terms)
		require.Greater(t, current.leader.Epoch(), epoch, tt.name)
		epoch = current.leader.Epoch()
		tt.strike()
		requireLost(t, current)
		tt.heal()
		current.result <- context.Cause(current.ctx)
	}
	current := next(t, terms)
	require.Eventually(t, func() bool { return fenced(current.ctx, m, current.leader, "at last") == nil }, waitTimeout, time.Millisecond)
}

func TestLead_ElectionWaitsForFencedTransaction(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	terms, _ := campaign(t, managerOf(t, db))
	m := managerOf(t, db)
	current := next(t, terms)
	others, _ := campaign(t, m)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		terminateLeader(t, db)
		requireLost(t, current)
		require.Eventually(t, func() bool {
			var waiting bool
			err := db.Pool().QueryRow(t.Context(), `select exists (select from pg_stat_activity where wait_event_type = 'Lock'
				and query like 'insert into rdsfx_leaders%' and datname = current_database())`).Scan(&waiting)
			return err == nil && waiting
		}, waitTimeout, time.Millisecond)
		select {
		case <-others:
			assert.Fail(t, "elected although the previous leader could still commit")
		default:
		}
		return insert(ctx, m, "in time")
	}, txn.Fenced(current.leader)))
	assert.EqualValues(t, 2, next(t, others).leader.Epoch())
	assert.Equal(t, []string{"in time"}, entries(t, db))
}

func TestFenced_ServerEndsTransactionOfFrozenLeader(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	m := managerOf(t, db)
	terms, _ := campaign(t, m)
	current := next(t, terms)
	read := func(opts ...txn.Option) (got string) {
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			return m.QueryRow(ctx, timeouts).Scan(&got)
		}, append(opts, txn.Fenced(current.leader))...))
		return got
	}
	assert.Equal(t, "0 0 5s", read())
	assert.Equal(t, "0 0 1min", read(txn.IdleTimeout(time.Minute)))
	assert.Equal(t, "0 0 5s", read(txn.ReadOnly()))
}

func TestFenced_MustAgreeWithRunningTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	require.ErrorContains(t, m.Do(t.Context(), neverCalled(t), txn.Fenced(nil)), "txn: Fenced(nil)")
	terms, _ := campaign(t, m)
	current := next(t, terms)
	nothing := func(context.Context) error { return nil }
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.Do(ctx, nothing, txn.Fenced(current.leader))
	}, txn.Fenced(current.leader)))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.ErrorIs(t, m.Do(ctx, neverCalled(t), txn.Fenced(current.leader)), txn.ErrOptionMismatch)
		return nil
	}))
}

func TestLead_EndsWithCtxManagerAndPooler(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ctx, expire := testctx.Expiring(t.Context())
	err := m.Lead(ctx, "job", func(ctx context.Context, _ *txn.Leader) error {
		expire()
		<-ctx.Done()
		return nil
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.PanicsWithValue(t, "fn", func() { _ = m.Lead(t.Context(), "job", func(context.Context, *txn.Leader) error { panic("fn") }) })

	terms, ended := campaign(t, m)
	current := next(t, terms)
	closed := make(chan error, 1)
	go func() { closed <- m.Close(context.Background()) }()
	<-current.ctx.Done()
	require.ErrorIs(t, context.Cause(current.ctx), pgfx.ErrClosed)
	current.result <- context.Cause(current.ctx)
	require.ErrorIs(t, <-ended, pgfx.ErrClosed)
	require.NoError(t, <-closed)
	never := func(context.Context, *txn.Leader) error { return errors.New("called") }
	require.ErrorIs(t, m.Lead(t.Context(), "job", never), pgfx.ErrClosed)

	pooled := newManager(t, func(c *pgfx.Config) { c.Pooler = pgfx.PoolerTransaction })
	require.ErrorIs(t, pooled.Lead(t.Context(), "job", never), pgfx.ErrNoSession)
}
