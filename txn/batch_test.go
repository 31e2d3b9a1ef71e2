package txn_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/txn"
)

// inserting queues one insert for each name, which returns the name.
func inserting(names ...string) func(*pgx.Batch) {
	return func(batch *pgx.Batch) {
		for _, name := range names {
			batch.Queue("insert into entries (name) values ($1) returning name", name)
		}
	}
}

// readNames reads two results of one name each.
func readNames(into *[]string) func(pgx.BatchResults) error {
	return func(results pgx.BatchResults) error {
		*into = nil
		for range 2 {
			var name string
			if err := results.QueryRow().Scan(&name); err != nil {
				return err
			}
			*into = append(*into, name)
		}
		return nil
	}
}

func TestDoBatch_TakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, terms := range [][]txn.Option{nil, {txn.ResolveCommit(txn.ByMarker)}, {txn.LockTimeout(time.Second)}} {
		m := managerOf(t, newDB(t), txn.WithDefaults(terms...))
		counter := fxtest.Statements(t, m.DB())
		var names []string
		require.NoError(t, m.DoBatch(t.Context(), inserting("a", "b"), readNames(&names)))
		least := math.MaxInt
		for range 5 { // the first transaction deletes old markers
			require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
				_, err := m.Exec(ctx, "delete from entries where name in ('c', 'd')")
				return err
			}))
			counter.Reset()
			require.NoError(t, m.DoBatch(t.Context(), inserting("c", "d"), readNames(&names)))
			least = min(least, counter.RoundTrips())
			assert.Equal(t, []string{"c", "d"}, names)
		}
		assert.Equal(t, 1, least)
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, m.DoBatch(ctx, inserting("e", "f"), readNames(&names)))
			return m.DoBatch(ctx, inserting("g"), func(pgx.BatchResults) error { return nil })
		}))
		assert.Equal(t, []string{"a", "b", "c", "d", "e", "f", "g"}, entries(t, m.DB()))
		requireReleased(t, m.DB())
	}
}

func TestDoBatch_UsesDoIfDefaultsNeedBegin(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t), txn.WithDefaults(txn.Serializable()))
	level := ""
	require.NoError(t, m.DoBatch(t.Context(), func(batch *pgx.Batch) { batch.Queue("show transaction_isolation") },
		func(results pgx.BatchResults) error { return results.QueryRow().Scan(&level) }))
	assert.Equal(t, "serializable", level)
}

func TestDoBatch_FailureIsNotCommitted(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t))
	var names []string
	for _, c := range []struct {
		name  string
		queue func(*pgx.Batch)
	}{
		{"the first result fails", inserting("a", "a")},
		{"a result that is not read fails", inserting("a", "b", "b")},
		{"a statement can't be prepared", func(batch *pgx.Batch) { inserting("a", "b")(batch); batch.Queue("nonsense") }},
		{"an argument can't be encoded", func(batch *pgx.Batch) { inserting("a")(batch); batch.Queue("select $1::int", struct{}{}) }},
	} {
		err := m.DoBatch(t.Context(), c.queue, readNames(&names))
		require.Error(t, err, c.name)
		require.NotErrorIs(t, err, txn.ErrOutcomeUnknown, c.name)
		var committed *txn.CommittedError
		require.NotErrorAs(t, err, &committed, c.name)
		assert.Empty(t, entries(t, m.DB()), c.name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, m.DoBatch(ctx, inserting("a"), readNames(&names)), context.Canceled)
	assert.Empty(t, entries(t, m.DB()))
	requireReleased(t, m.DB())
}

func TestDoBatch_ReadFailureIsCommittedError(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t))
	wrong := func(results pgx.BatchResults) error {
		var number int
		return results.QueryRow().Scan(&number)
	}
	var committed *txn.CommittedError
	require.ErrorAs(t, m.DoBatch(t.Context(), inserting("a", "b"), wrong), &committed)
	require.ErrorContains(t, committed, "txn: committed, but a result could not be read: can't scan into dest[0] (col: name)")
	assert.Equal(t, []string{"a", "b"}, entries(t, m.DB()))
	mine := errors.New("mine")
	require.ErrorIs(t, m.DoBatch(t.Context(), inserting("c"), func(pgx.BatchResults) error { return mine }), mine)
	assert.Equal(t, []string{"a", "b", "c"}, entries(t, m.DB()))

	err := m.DoBatch(t.Context(), inserting("d", "d"), wrong)
	require.Error(t, err)
	require.NotErrorAs(t, err, new(*txn.CommittedError), "a later statement has failed")
	require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.Equal(t, []string{"a", "b", "c"}, entries(t, m.DB()))

	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.DoBatch(ctx, inserting("e"), func(pgx.BatchResults) error { return mine })
	}), mine)
	assert.Equal(t, []string{"a", "b", "c"}, entries(t, m.DB()), "inside a transaction the insert is rolled back")
	requireReleased(t, m.DB())
}

func TestDoBatch_InDoubtCommitIsResolved(t *testing.T) {
	t.Parallel()
	for _, by := range []txn.CommitResolution{txn.ByWitness, txn.ByMarker} {
		for _, stored := range []bool{true, false} {
			url := fxtest.URL(t)
			proxy := faults.NewProxy(t, url)
			m := managerOf(t, openDB(t, proxy.URL(), maxConns(2)), txn.WithDefaults(txn.ResolveCommit(by)))
			direct, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(func() { _ = direct.Close(context.Background()) })
			_, err = direct.Exec(t.Context(), "select pg_advisory_lock(7)")
			require.NoError(t, err)
			result := make(chan error, 1)
			go func() {
				result <- m.DoBatch(t.Context(), func(batch *pgx.Batch) {
					batch.Queue("insert into entries (name) values ('a')")
					batch.Queue("select pg_advisory_xact_lock(7)")
				}, func(pgx.BatchResults) error { return nil })
			}()
			const waiting = `select coalesce(max(pid), 0) from pg_locks where locktype = 'advisory' and not granted
				and database = (select oid from pg_database where datname = current_database())` // the server is shared
			var pid int
			require.Eventually(t, func() bool {
				return assert.NoError(t, direct.QueryRow(t.Context(), waiting).Scan(&pid)) && pid > 0
			}, waitTimeout, time.Millisecond, "the batch waits for the lock")
			if stored {
				proxy.BlackHole()
				_, err = direct.Exec(t.Context(), "select pg_advisory_unlock(7)")
				require.NoError(t, err)
				require.Eventually(t, func() bool {
					var n int
					return assert.NoError(t, direct.QueryRow(t.Context(), "select count(*) from entries").Scan(&n)) && n > 0
				}, waitTimeout, time.Millisecond, "the batch is committed")
				proxy.ResetConnections()
			} else {
				_, err = direct.Exec(t.Context(), "select pg_terminate_backend($1)", pid)
				require.NoError(t, err)
			}
			err = <-result
			var committed *txn.CommittedError
			switch {
			case by == txn.ByWitness:
				require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
				require.ErrorContains(t, err, "txn.ByMarker")
			case stored:
				require.ErrorAs(t, err, &committed)
			default:
				require.ErrorContains(t, err, "the server has rolled back")
				require.NotErrorIs(t, err, txn.ErrOutcomeUnknown)
			}
			requireReleased(t, m.DB())
		}
	}
}
