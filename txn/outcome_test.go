package txn_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// doubtful returns a manager whose COMMITs can be tampered with, and which has its witness.
func doubtful(t *testing.T, opts ...txn.ManagerOption) (*txn.Manager, *proxy) {
	t.Helper()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, newDatabase(t), proxy.through, maxConns(2)), opts...)
	require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
	return m, proxy
}

// rounds is how often the suite of lost commits loses one. RDSFX_TXN_ROUNDS sets it.
func rounds(t *testing.T, usually int) int {
	t.Helper()
	text, ok := os.LookupEnv("RDSFX_TXN_ROUNDS")
	if !ok {
		return usually
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func TestALostCommitIsReportedAsWhatItWas(t *testing.T) {
	t.Parallel()
	for _, by := range []txn.Resolution{txn.ByWitness, txn.ByMarker} {
		m, proxy := doubtful(t, txn.WithDefaults(txn.Outcome(by)))
		n := rounds(t, 30)
		for i := range n {
			name := strconv.Itoa(i)
			lost := []verdict{loseAnswer, loseCommit}[i%2]
			proxy.onCommit(once(lost))
			ran := ""
			err := m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { ran += "committed" }))
				require.NoError(t, txn.AfterRollback(ctx, func(context.Context, error) { ran += "rolled back" }))
				return insert(ctx, m, name)
			})
			if lost == loseAnswer {
				require.NoError(t, err)
				require.Equal(t, "committed", ran)
				require.Contains(t, entries(t, m.DB()), name)
			} else {
				require.ErrorContains(t, err, "the server has rolled back")
				require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
				require.Equal(t, "rolled back", ran)
				require.NotContains(t, entries(t, m.DB()), name)
			}
		}
		proxy.onCommit(once(forward))
		stats := m.Stats()
		assert.Equal(t, txn.InDoubt{Committed: int64(n+1) / 2, Aborted: int64(n) / 2}, stats.InDoubt)
		assert.Equal(t, int64(n+1)/2+1, stats.Committed)
		assert.Equal(t, int64(n)/2, stats.RolledBack.Lost)
		settled(t, m.DB())
	}
}

func TestACommitThatWasRolledBackIsRetriedWhenThePolicySaysSo(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	for _, lost := range []verdict{loseAnswer, loseCommit} {
		proxy.onCommit(once(lost))
		calls := 0
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			calls++
			_, err := m.Exec(ctx, "insert into entries values ('x', 1) on conflict (name) do update set n = entries.n + 1")
			return err
		}, txn.Retry(txn.RetryPolicy{LostConnections: true, Delay: time.Millisecond})))
		if lost == loseAnswer {
			assert.Equal(t, 1, calls)
		} else {
			assert.Equal(t, 2, calls)
		}
	}
	var n int
	require.NoError(t, m.QueryRow(t.Context(), "select n from entries").Scan(&n))
	assert.Equal(t, 2, n, "nothing was done twice")
}

func TestAnOutcomeIsUnknownWhenResolutionIsOff(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	for _, lost := range []verdict{loseAnswer, loseCommit} {
		proxy.onCommit(once(lost))
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, txn.AfterCommit(ctx, func(context.Context) { t.Error("nobody knows that") }))
			require.NoError(t, txn.AfterRollback(ctx, func(context.Context, error) { t.Error("nobody knows that") }))
			return insertOnce(ctx, m)
		}, txn.Outcome(txn.Unresolved), eager)
		require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
		require.ErrorContains(t, err, "switched off")
		assert.False(t, pgfx.CanRetry(err, pgfx.WorkRepeatable), "whatever the work is said to be")
	}
	assert.Equal(t, txn.InDoubt{Unknown: 2}, m.Stats().InDoubt)
	settled(t, m.DB())
}

func TestAnOutcomeIsUnknownWithoutAWitness(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	for _, stage := range []string{"before", "during"} {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			proxy.onCommit(once(loseAnswer))
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
		require.ErrorContains(t, unknown.Why, "the witness doesn't answer")
		require.Error(t, unknown.Unwrap())
	}
	assert.Equal(t, []string{"before", "during"}, entries(t, m.DB()))

	// The one after that has a witness again as soon as it is there.
	require.Eventually(t, func() bool {
		_ = m.Do(t.Context(), func(context.Context) error { return nil })
		return witnesses(t, m) == 1
	}, patience, time.Millisecond)
	proxy.onCommit(once(loseAnswer))
	require.Eventually(t, func() bool {
		return m.Do(t.Context(), insertOnceIn(m)) == nil
	}, patience, time.Millisecond)
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

// killWitness ends the session of the manager's witness.
func killWitness(t *testing.T, m *txn.Manager) {
	t.Helper()
	_, err := m.DB().Pool().Exec(t.Context(), "select pg_terminate_backend(pid) "+witnessSessions)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return witnesses(t, m) == 0 }, patience, time.Millisecond)
}

func TestACommitThatNeverArrivedIsEndedOnTheServer(t *testing.T) {
	t.Parallel()
	for _, by := range []txn.Resolution{txn.ByWitness, txn.ByMarker} {
		m, proxy := doubtful(t, txn.WithDefaults(txn.Outcome(by)), txn.WithOutcomeTimeout(patience))
		proxy.onCommit(once(holdCommit))
		err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
		require.ErrorContains(t, err, "the server has rolled back")
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }), "its locks are gone")
	}
}

func TestAnAnswerThatNeverComesIsResolvedAtTheDeadline(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	proxy.onCommit(once(mute))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "x") }))
	assert.Equal(t, txn.InDoubt{Committed: 1}, m.Stats().InDoubt)
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}

func TestAReaderPaysNothingForResolution(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	hasXID := func(opts ...txn.Option) (assigned bool) {
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			return m.QueryRow(ctx, "select pg_current_xact_id_if_assigned() is not null").Scan(&assigned)
		}, opts...))
		return assigned
	}
	assert.False(t, hasXID(txn.ReadOnly()))
	assert.False(t, hasXID(txn.Outcome(txn.Unresolved)))
	assert.Zero(t, witnesses(t, m), "nobody has needed a witness yet")
	assert.True(t, hasXID())
	assert.Equal(t, 1, witnesses(t, m))
}

func TestManyManagersMakeTheMarkersTableAtOnce(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	errs := make(chan error)
	for range 8 {
		m := managerOf(t, db, txn.WithDefaults(txn.Outcome(txn.ByMarker)))
		go func() { errs <- m.Do(context.Background(), func(context.Context) error { return nil }) }()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func TestOldMarkersAreSwept(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	one := managerOf(t, db, txn.WithDefaults(txn.Outcome(txn.ByMarker)))
	require.NoError(t, one.Do(t.Context(), func(context.Context) error { return nil }))
	require.NoError(t, one.Close(t.Context()), "waits for the first sweep")
	_, err := db.Pool().Exec(t.Context(), "update rdsfx_txn_markers set written = now() - interval '2 days'")
	require.NoError(t, err)
	other := managerOf(t, db, txn.WithDefaults(txn.Outcome(txn.ByMarker)))
	require.NoError(t, other.Do(t.Context(), func(context.Context) error { return nil }))
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from rdsfx_txn_markers").Scan(&n))
		return n == 1
	}, patience, time.Millisecond)
}

func TestAMarkersTableThatCantBeMadeFailsTheBegin(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithDefaults(txn.Outcome(txn.ByMarker)))
	_, err := m.Exec(t.Context(), "drop schema public cascade")
	require.NoError(t, err)
	require.ErrorContains(t, m.Do(t.Context(), unreachable(t)), "txn: begin: create table rdsfx_txn_markers")
	settled(t, m.DB())
}

func TestATransactionBeginsWithoutAWitnessWhenThereCanBeNone(t *testing.T) {
	t.Parallel()
	proxy, config := newProxy(t), newDatabase(t)
	proxy.through(&config)
	db, err := pgfx.Open(config, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		if strings.HasSuffix(cc.RuntimeParams["application_name"], "/witness") {
			return errTest
		}
		return nil
	}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.Background())) })
	require.NoError(t, db.Start(t.Context()))
	m := managerOf(t, db)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "create table things ()")
		return err
	}))
	proxy.onCommit(once(loseAnswer))
	err = m.Do(t.Context(), func(context.Context) error { return nil })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "no witness")
}

func TestAnOutcomeThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.ErrorContains(t, m.Do(t.Context(), unreachable(t), txn.Outcome(0)), "txn: Outcome(0)")
	_, err := txn.NewManager(m.DB(), txn.WithOutcomeTimeout(0))
	require.ErrorContains(t, err, "txn: WithOutcomeTimeout(0s)")
}

func TestAClosedManagerStillWorks(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.Close(t.Context()))
	require.Eventually(t, func() bool { return witnesses(t, m) == 0 }, patience, time.Millisecond)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	proxy.onCommit(once(loseAnswer))
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "y") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "no witness")
}

func TestAWitnessIsCheckedNowAndThen(t *testing.T) {
	t.Parallel()
	m, _ := doubtful(t)
	for _, kill := range []bool{false, true} {
		m.ExpireWitness()
		if kill {
			killWitness(t, m)
		}
		require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
		require.Eventually(t, m.WitnessIsFresh, patience, time.Millisecond)
		require.Equal(t, 1, witnesses(t, m))
	}
}

func TestAWitnessOfAnotherServerIsNone(t *testing.T) {
	t.Parallel()
	other, err := embedded.Start(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, other.Stop(context.Background())) }()
	if other.External() || server.External() {
		t.Skip("there is one server only")
	}
	m, proxy := doubtful(t)
	config, err := pgx.ParseConfig(other.URL())
	require.NoError(t, err)
	admin, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "create database "+m.DB().Config().Database)
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))

	proxy.leadTo(t, other.URL()) // as a failover does: new connections go there, the witness stays where it is
	m.DB().Reset()
	_, err = m.Exec(t.Context(), "create table entries (name text primary key, n int not null default 0)")
	require.NoError(t, err)
	proxy.onCommit(once(loseAnswer))
	err = m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	require.ErrorContains(t, err, "no witness")
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))

	require.Eventually(t, func() bool { // the next one has a witness there
		proxy.onCommit(once(loseAnswer))
		return m.Do(t.Context(), insertOnceIn(m)) == nil
	}, patience, 10*time.Millisecond)
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.DB().Close(t.Context()))
}

func TestAWitnessServedByAnotherSessionIsNone(t *testing.T) {
	t.Parallel()
	m, proxy := doubtful(t)
	m.SwapWitness()
	proxy.onCommit(once(loseAnswer))
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "another session")
}
