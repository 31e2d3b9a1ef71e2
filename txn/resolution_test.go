package txn_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// newProxiedManager returns a manager that has its witness, and the proxy between the manager and the server.
func newProxiedManager(t *testing.T, opts ...txn.ManagerOption) (*txn.Manager, *faults.Proxy) {
	t.Helper()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL(), maxConns(2)), opts...)
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
	return m, proxy
}

// losses are the two ways to lose the reply to a COMMIT.
var losses = []struct {
	stored bool
	lose   func(*faults.Proxy)
}{
	{true, (*faults.Proxy).DropCommitAck},
	{false, (*faults.Proxy).DropCommit},
}

func TestResolveCommit_ReturnsOutcome(t *testing.T) {
	t.Parallel()
	for _, by := range []txn.CommitResolution{txn.ByWitness, txn.ByMarker} {
		m, proxy := newProxiedManager(t, txn.WithDefaults(txn.ResolveCommit(by)))
		for _, loss := range losses {
			loss.lose(proxy)
			name, ran := strconv.FormatBool(loss.stored), ""
			err := m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { ran += "committed" }))
				require.NoError(t, txn.AfterRollback(ctx, func(context.Context, error) { ran += "rolled back" }))
				return insert(ctx, m, name)
			})
			if loss.stored {
				require.NoError(t, err)
				require.Equal(t, "committed", ran)
			} else {
				require.ErrorContains(t, err, "the server has rolled back")
				require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
				require.Equal(t, "rolled back", ran)
			}
		}
		assert.Equal(t, []string{"true"}, entries(t, m.DB()))
		stats := m.Stats()
		assert.Equal(t, txn.InDoubt{Committed: 1, Aborted: 1}, stats.InDoubt)
		assert.EqualValues(t, 2, stats.Committed)
		assert.EqualValues(t, 1, stats.RolledBack.ConnLost)
		requireReleased(t, m.DB())
	}
}

func TestResolveCommit_RolledBackIsRetriedIfIdempotent(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	for _, loss := range losses {
		loss.lose(proxy)
		calls := 0
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			calls++
			_, err := m.Exec(ctx, "insert into entries values ('x', 1) on conflict (name) do update set n = entries.n + 1")
			return err
		}, idempotentPolicy))
		if loss.stored {
			assert.Equal(t, 1, calls)
		} else {
			assert.Equal(t, 2, calls)
		}
	}
	var n int
	require.NoError(t, m.QueryRow(t.Context(), "select n from entries").Scan(&n))
	assert.Equal(t, 2, n, "no row was inserted twice")
}

func TestResolveCommit_UnresolvedIsUnknown(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	for _, loss := range losses {
		loss.lose(proxy)
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { t.Error("a hook ran although the outcome is unknown") }))
			require.NoError(t, txn.AfterRollback(ctx, func(context.Context, error) { t.Error("a hook ran although the outcome is unknown") }))
			return insertOnce(ctx, m)
		}, txn.ResolveCommit(txn.Unresolved), fastPolicy)
		require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
		require.ErrorContains(t, err, "disabled by txn.Unresolved")
		assert.False(t, pgfx.CanRetry(err, pgfx.Idempotent), "not even idempotent work")
	}
	assert.Equal(t, txn.InDoubt{Unknown: 2}, m.Stats().InDoubt)
	requireReleased(t, m.DB())
}

func TestResolveCommit_PoolerNeedsMarker(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	db := openDB(t, proxy.URL(), maxConns(2), func(c *pgfx.Config) { c.Pooler = pgfx.PoolerTransaction })
	m := managerOf(t, db)
	for _, loss := range losses {
		loss.lose(proxy)
		err := m.Do(t.Context(), func(ctx context.Context) error { return insertOnce(ctx, m) })
		require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
		require.ErrorContains(t, err, "a transaction pooler shares sessions")
	}
	loss := losses[0]
	loss.lose(proxy)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insertOnce(ctx, m) }, txn.ResolveCommit(txn.ByMarker)))
	assert.Zero(t, witnesses(t, m), "behind a pooler a witness would prove nothing")
	err := m.WithSessionLock(t.Context(), "key", func(context.Context) error { t.Error("the closure ran without a lock"); return nil })
	require.ErrorIs(t, err, pgfx.ErrNoSession)
}

func TestWitness_LossLeavesOutcomeUnknown(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	for _, stage := range []string{"before", "during"} {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			proxy.DropCommitAck()
			if stage == "during" {
				killWitness(t, m)
			}
			return insert(ctx, m, stage)
		})
		if stage == "before" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
		unknown, ok := errors.AsType[*txn.OutcomeUnknownError](err)
		require.True(t, ok)
		assert.NotZero(t, unknown.XID)
		require.ErrorContains(t, unknown.Why, "the session of the witness has ended")
		require.Error(t, unknown.Unwrap())
	}
	assert.Equal(t, []string{"before", "during"}, entries(t, m.DB()))

	// Later transactions have a witness as soon as another one is open.
	require.Eventually(t, func() bool {
		_ = m.Do(t.Context(), func(context.Context) error { return nil })
		return witnesses(t, m) == 1
	}, waitTimeout, time.Millisecond)
	proxy.DropCommitAck()
	require.Eventually(t, func() bool {
		return m.Do(t.Context(), insertOnceIn(m)) == nil
	}, waitTimeout, time.Millisecond)
}

func insertOnceIn(m *txn.Manager) func(context.Context) error {
	return func(ctx context.Context) error { return insertOnce(ctx, m) }
}

const witnessSessions = `from pg_stat_activity where datname = current_database() and application_name like '%/witness'`

func witnesses(t *testing.T, m *txn.Manager) (n int) {
	t.Helper()
	if err := m.DB().Pool().QueryRow(t.Context(), "select count(*) "+witnessSessions).Scan(&n); err != nil {
		return -1
	}
	return n
}

// killWitness terminates the session of the manager's witness.
func killWitness(t *testing.T, m *txn.Manager) {
	t.Helper()
	_, err := m.DB().Pool().Exec(t.Context(), "select pg_terminate_backend(pid) "+witnessSessions)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return witnesses(t, m) == 0 }, waitTimeout, time.Millisecond)
}

func TestResolveCommit_TerminatesSessionOfUnsentCommit(t *testing.T) {
	t.Parallel()
	for _, by := range []txn.CommitResolution{txn.ByWitness, txn.ByMarker} {
		m, proxy := newProxiedManager(t, txn.WithDefaults(txn.ResolveCommit(by)), txn.WithOutcomeTimeout(waitTimeout))
		proxy.OnCommit(func() faults.CommitFault { return faults.CommitHalfOpen })
		err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
		require.ErrorContains(t, err, "the server has rolled back")
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
		proxy.OnCommit(nil)
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }), "its locks are released")
	}
}

func TestResolveCommit_ResolvesAfterDeadline(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	proxy.BlackHoleCommitAck()
	ctx, expire := testctx.Expiring(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "x") }) }()
	require.Eventually(t, func() bool { return len(entries(t, m.DB())) == 1 }, waitTimeout, time.Millisecond, "the transaction is committed")
	assert.Empty(t, ended)
	expire()
	require.NoError(t, <-ended)
	assert.Equal(t, txn.InDoubt{Committed: 1}, m.Stats().InDoubt)
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}

// TestResolveCommit_SurvivesHalfOpenConnections makes every connection half-open during the commit, the witness included, and then
// the first connection that resolves it.
func TestResolveCommit_SurvivesHalfOpenConnections(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]txn.CommitResolution{"witness": txn.ByWitness, "marker": txn.ByMarker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := newProxy(t)
			var resolving atomic.Int64
			db := fxtest.DB(t, fxtest.At(proxy.URL()), fxtest.Pool(pgfx.WithAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
				if strings.HasSuffix(conn.Config().RuntimeParams["application_name"], "/outcome") && resolving.Add(1) == 1 {
					proxy.BlackHole()
				}
				return nil
			})))
			_, err := db.Pool().Exec(t.Context(), makeEntries)
			require.NoError(t, err)
			m := managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(by)), txn.WithOutcomeTimeout(waitTimeout))
			proxy.BlackHoleCommitAck()
			ctx, expire := testctx.Expiring(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "x") }) }()
			require.Eventually(t, func() bool { return len(entries(t, db)) == 1 }, waitTimeout, time.Millisecond, "the transaction is committed")
			proxy.BlackHole()
			expire()
			require.NoError(t, <-ended)
			assert.EqualValues(t, 2, resolving.Load())
		})
	}
}

func TestResolveCommit_EndsWithTheDeadlineIfAsked(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]txn.CommitResolution{"witness": txn.ByWitness, "marker": txn.ByMarker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, proxy := newProxiedManager(t, txn.WithOutcomeTimeout(time.Hour))
			in := []txn.Option{txn.ResolveCommit(by), txn.OutcomeWithinDeadline()}
			proxy.BlackHoleCommitAck()
			ctx, expire := testctx.Expiring(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "x") }, in...) }()
			require.Eventually(t, func() bool { return len(entries(t, m.DB())) == 1 }, waitTimeout, time.Millisecond, "the transaction is committed")
			expire()
			require.ErrorIs(t, <-ended, txn.ErrOutcomeUnknown, "the ctx ended during COMMIT, so there is no time left")

			proxy.DropCommitAck()
			require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "y") }, in...),
				"with time left the outcome is known")
			assert.Equal(t, []string{"x", "y"}, entries(t, m.DB()))
		})
	}
}

func TestResolveCommit_ReadOnlyCostsNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	hasXID := func(opts ...txn.Option) (assigned bool) {
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			return m.QueryRow(ctx, "select pg_current_xact_id_if_assigned() is not null").Scan(&assigned)
		}, opts...))
		return assigned
	}
	assert.False(t, hasXID(txn.ReadOnly()))
	assert.False(t, hasXID(txn.ResolveCommit(txn.Unresolved)))
	assert.Zero(t, witnesses(t, m), "no transaction has needed a witness yet")
	assert.True(t, hasXID())
	assert.Equal(t, 1, witnesses(t, m))
}

func TestMarker_ManagersCreateTableConcurrently(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	errs := make(chan error)
	for range 8 {
		m := managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(txn.ByMarker)))
		go func() { errs <- m.Do(context.Background(), func(context.Context) error { return nil }) }()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func TestMarker_OldRowsAreDeleted(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	one := managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(txn.ByMarker)))
	require.NoError(t, one.Do(t.Context(), func(context.Context) error { return nil }))
	require.NoError(t, one.Close(t.Context()), "Close waits for the first deletion")
	_, err := db.Pool().Exec(t.Context(), "update rdsfx_txn_markers set written = now() - interval '2 days'")
	require.NoError(t, err)
	other := managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(txn.ByMarker)))
	require.NoError(t, other.Do(t.Context(), func(context.Context) error { return nil }))
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from rdsfx_txn_markers").Scan(&n))
		return n == 1
	}, waitTimeout, time.Millisecond)
}

func TestMarker_MissingTableFailsBegin(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithDefaults(txn.ResolveCommit(txn.ByMarker)))
	_, err := m.Exec(t.Context(), "drop schema public cascade")
	require.NoError(t, err)
	require.ErrorContains(t, m.Do(t.Context(), neverCalled(t)), "txn: begin: create table rdsfx_txn_markers")
	requireReleased(t, m.DB())
}

func TestWitness_IsOptionalForBegin(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	db := fxtest.DB(t, fxtest.At(proxy.URL()), fxtest.Pool(pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		if strings.HasSuffix(cc.RuntimeParams["application_name"], "/witness") {
			return errTest
		}
		return nil
	})))
	m := managerOf(t, db)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "create table things ()")
		return err
	}))
	proxy.DropCommitAck()
	err := m.Do(t.Context(), func(context.Context) error { return nil })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "no witness")
}

func TestResolveCommit_RejectsInvalidValues(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.ErrorContains(t, m.Do(t.Context(), neverCalled(t), txn.ResolveCommit(0)), "txn: ResolveCommit(0)")
	_, err := txn.NewManager(m.DB(), txn.WithOutcomeTimeout(0))
	require.ErrorContains(t, err, "txn: WithOutcomeTimeout(0s)")
}

func TestManager_IsUsableAfterClose(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.Close(t.Context()))
	require.Eventually(t, func() bool { return witnesses(t, m) == 0 }, waitTimeout, time.Millisecond)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	proxy.DropCommitAck()
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "y") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "no witness")
}

func TestWitness_IsCheckedRegularly(t *testing.T) {
	t.Parallel()
	m, _ := newProxiedManager(t)
	for _, kill := range []bool{false, true} {
		m.ExpireWitness()
		if kill {
			killWitness(t, m)
		}
		require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
		require.Eventually(t, m.HasCheckedWitness, waitTimeout, time.Millisecond)
		require.Equal(t, 1, witnesses(t, m))
	}
}

func TestWitness_OfAnotherServerIsDiscarded(t *testing.T) {
	t.Parallel()
	cluster := faults.NewCluster(t)
	primary, standby := faults.NewProxy(t, cluster.Primary().URL()), faults.NewProxy(t, cluster.Standby().URL())
	name := faults.NewResolver(t, "writer.test", primary.URL())
	db := fxtest.DB(t, fxtest.At(name.URL()), fxtest.Pool(name.Option()))
	m := managerOf(t, db)
	_, err := m.Exec(t.Context(), makeEntries)
	require.NoError(t, err)
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }), "opens the witness")
	require.NoError(t, cluster.AwaitReplay(t.Context()))

	cluster.Promote() // the old primary keeps running, and the witness with it
	name.Point(standby.URL())
	db.Reset()
	standby.DropCommitAck()
	err = m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	require.ErrorContains(t, err, "no witness")
	assert.Equal(t, []string{"x"}, entries(t, db))

	require.Eventually(t, func() bool { // later transactions have a witness on the new primary
		standby.DropCommitAck()
		return m.Do(t.Context(), insertOnceIn(m)) == nil
	}, waitTimeout, 10*time.Millisecond)
}

func TestWitness_OfAnotherSessionIsDiscarded(t *testing.T) {
	t.Parallel()
	m, proxy := newProxiedManager(t)
	m.MoveWitness()
	proxy.DropCommitAck()
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "the session of the witness has ended")
}
