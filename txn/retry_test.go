package txn_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

// eager is a policy for tests: it gives up late and waits little.
var eager = txn.Retry(txn.RetryPolicy{MaxAttempts: 1000, MaxElapsed: patience, Delay: time.Millisecond, MaxDelay: 20 * time.Millisecond})

// fail makes the server answer with a SQLSTATE.
func fail(ctx context.Context, m *txn.Manager, code string) error {
	_, err := m.Exec(ctx, fmt.Sprintf(`do $$ begin raise exception 'made up' using errcode = '%s'; end $$`, code))
	return err
}

func TestAConflictIsRetriedFromTheStart(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, code := range []string{"40001", "40P01"} {
		var (
			d        diary
			attempts []int
		)
		name := "x" + code
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			attempts = append(attempts, txn.Attempt(ctx))
			d.hook(ctx, t, strconv.Itoa(txn.Attempt(ctx)))
			require.NoError(t, insert(ctx, m, name), "nothing of the attempt before is left")
			if txn.Attempt(ctx) < 3 {
				err := fail(ctx, m, code)
				require.Error(t, err)
				return err
			}
			return nil
		}, eager))
		assert.Equal(t, []int{1, 2, 3}, attempts)
		assert.Len(t, d, 4)
		assert.Equal(t, diary{"3 before", "3 after"}, d[2:], "the hooks of the attempts before are gone")
	}
	assert.Equal(t, []string{"x40001", "x40P01"}, entries(t, m.DB()))
	assert.EqualValues(t, 4, m.Stats().Retried)
	assert.EqualValues(t, 4, m.Stats().RolledBack.Conflict)
	assert.Zero(t, txn.Attempt(t.Context()))
}

func TestAConflictThatTheClosureHidesIsRetriedToo(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, result := range []error{nil, errTest} {
		calls := 0
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			if calls++; calls == 1 {
				require.Error(t, fail(ctx, m, "40001"))
				return result
			}
			return nil
		}, eager))
		assert.Equal(t, 2, calls)
	}
}

func TestOnlyConflictsAreRetried(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for name, closure := range map[string]func(ctx context.Context) error{
		"own error":           func(context.Context) error { return errTest },
		"constraint":          func(ctx context.Context) error { return fail(ctx, m, "23505") },
		"cancelled statement": func(ctx context.Context) error { return fail(ctx, m, "57014") },
		"read-only server":    func(ctx context.Context) error { return fail(ctx, m, "25006") },
		"lost connection": func(ctx context.Context) error {
			_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			return err
		},
		"an error that a savepoint has made good": func(ctx context.Context) error {
			_ = m.Do(ctx, func(ctx context.Context) error { return fail(ctx, m, "40001") }, txn.Nested())
			return errTest
		},
	} {
		calls := 0
		require.Error(t, m.Do(t.Context(), func(ctx context.Context) error { calls++; return closure(ctx) }, eager), name)
		assert.Equal(t, 1, calls, name)
	}
}

func TestNothingIsRetriedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, opts := range [][]txn.Option{nil, {txn.Retry(txn.RetryPolicy{MaxAttempts: 1})}} {
		calls := 0
		err := m.Do(t.Context(), func(ctx context.Context) error { calls++; return fail(ctx, m, "40001") }, opts...)
		require.ErrorContains(t, err, "40001")
		assert.Equal(t, 1, calls)
	}
}

func TestRetriesEndWithTheirPolicy(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	calls := 0
	always := func(ctx context.Context) error { calls++; return fail(ctx, m, "40001") }

	err := m.Do(t.Context(), always, txn.Retry(txn.RetryPolicy{MaxAttempts: 3, Delay: time.Nanosecond}))
	require.ErrorContains(t, err, "txn: gave up after 3 attempts")
	var conflict *pgconn.PgError
	require.ErrorAs(t, err, &conflict)
	retries, ok := errors.AsType[*txn.RetriesError](err)
	require.True(t, ok)
	assert.Equal(t, 3, retries.Attempts)
	assert.Equal(t, 3, calls)

	calls = 0
	err = m.Do(t.Context(), always, txn.Retry(txn.RetryPolicy{MaxElapsed: time.Nanosecond}))
	require.ErrorContains(t, err, "40001")
	assert.NotErrorAs(t, err, &retries)
	assert.Equal(t, 1, calls)

	calls = 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = m.Do(ctx, always, txn.Retry(txn.RetryPolicy{Delay: time.Hour, MaxElapsed: 2 * time.Hour}))
	require.ErrorContains(t, err, "40001", "waiting beyond the deadline is pointless")
	assert.Equal(t, 1, calls)

	ctx, cancel = context.WithCancel(t.Context())
	err = m.Do(ctx, func(ctx context.Context) error {
		err := fail(ctx, m, "40001")
		context.AfterFunc(ctx, func() {})
		time.AfterFunc(time.Millisecond, cancel)
		return err
	}, txn.Retry(txn.RetryPolicy{Delay: time.Hour, MaxElapsed: 2 * time.Hour}))
	require.ErrorContains(t, err, "40001", "a cancelled wait ends with what went wrong")
}

func TestOnlyTheOutermostDoRetries(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, opt := range []txn.Option{txn.Required(), txn.Nested()} {
		outer, inner := 0, 0
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			outer++
			return m.Do(ctx, func(ctx context.Context) error {
				inner++
				assert.Equal(t, outer, txn.Attempt(ctx))
				if inner == 1 {
					return fail(ctx, m, "40001")
				}
				return nil
			}, opt, eager)
		}, eager))
		assert.Equal(t, 2, outer)
		assert.Equal(t, 2, inner)
	}
}

func TestLostConnectionsAreRetriedWhenThePolicySaysSo(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	policy := txn.Retry(txn.RetryPolicy{LostConnections: true, Delay: time.Millisecond})
	for name, lose := range map[string]func(ctx context.Context) error{
		"terminated": func(ctx context.Context) error {
			_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			return err
		},
		"socket closed": func(ctx context.Context) error {
			tx, _ := m.Tx(ctx)
			require.NoError(t, tx.Conn().PgConn().Conn().Close())
			_, err := m.Exec(ctx, "select 1")
			return err
		},
		"read-only server": func(ctx context.Context) error { return fail(ctx, m, "25006") },
	} {
		calls, before := 0, connected(m.DB())
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, name))
			if calls++; calls == 1 {
				return lose(ctx)
			}
			return nil
		}, policy), name)
		assert.Equal(t, 2, calls, name)
		assert.Equal(t, before+1, connected(m.DB()), "%s: the next attempt has another connection", name)
	}
	assert.Len(t, entries(t, m.DB()), 3)
}

func TestAPolicyThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, policy := range []txn.RetryPolicy{
		{MaxAttempts: -1}, {MaxElapsed: -1}, {Delay: -1}, {MaxDelay: -1}, {Multiplier: 0.5}, {Multiplier: math.NaN()},
	} {
		require.ErrorContains(t, m.Do(t.Context(), unreachable(t), txn.Retry(policy)), "txn: Retry")
	}
}

func TestNoUpdateIsLostAmongSerializableWriters(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(8))
	require.NoError(t, insert(t.Context(), m, "counter"))
	const workers, rounds = 8, 10
	for _, level := range []txn.Option{txn.Serializable(), txn.RepeatableRead()} {
		_, err := m.Exec(t.Context(), "update entries set n = 0")
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range rounds {
					assert.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
						var n int
						if err := m.QueryRow(ctx, "select n from entries where name = 'counter'").Scan(&n); err != nil {
							return err
						}
						_, err := m.Exec(ctx, "update entries set n = $1 where name = 'counter'", n+1)
						return err
					}, level, eager))
				}
			})
		}
		wg.Wait()
		var n int
		require.NoError(t, m.QueryRow(t.Context(), "select n from entries").Scan(&n))
		assert.Equal(t, workers*rounds, n)
	}
	assert.Positive(t, m.Stats().Retried, "there was a conflict to be retried")
}

func TestWriteSkewIsImpossible(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(8))
	ctx := t.Context()
	for range 5 {
		_, err := m.Exec(ctx, "delete from entries; insert into entries values ('ann', 1), ('bob', 1)")
		require.NoError(t, err)
		var wg, both sync.WaitGroup
		both.Add(2)
		for _, name := range []string{"ann", "bob"} { // each goes off duty when the other one stays
			wg.Go(func() {
				assert.NoError(t, m.Do(ctx, func(ctx context.Context) error {
					var onDuty int
					if err := m.QueryRow(ctx, "select count(*) from entries where n = 1").Scan(&onDuty); err != nil {
						return err
					}
					if txn.Attempt(ctx) == 1 {
						both.Done()
						both.Wait() // both have looked before either writes
					}
					if onDuty < 2 {
						return nil
					}
					_, err := m.Exec(ctx, "update entries set n = 0 where name = $1", name)
					return err
				}, txn.Serializable(), eager))
			})
		}
		wg.Wait()
		var onDuty int
		require.NoError(t, m.QueryRow(ctx, "select count(*) from entries where n = 1").Scan(&onDuty))
		require.Equal(t, 1, onDuty)
	}
}

func TestADeadlockEndsWellForBoth(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(4))
	ctx := t.Context()
	_, err := m.Exec(ctx, "insert into entries values ('a'), ('b'); ")
	require.NoError(t, err)
	_, err = m.Exec(ctx, "do $$ begin execute format('alter database %I set deadlock_timeout = ''10ms''', current_database()); end $$")
	require.NoError(t, err)
	m.DB().Reset()
	var wg, both sync.WaitGroup
	both.Add(2)
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			assert.NoError(t, m.Do(ctx, func(ctx context.Context) error {
				for i, name := range order {
					if _, err := m.Exec(ctx, "update entries set n = n + 1 where name = $1", name); err != nil {
						return err
					}
					if i == 0 && txn.Attempt(ctx) == 1 {
						both.Done()
						both.Wait()
					}
				}
				return nil
			}, eager))
		})
	}
	wg.Wait()
	var sum int
	require.NoError(t, m.QueryRow(ctx, "select sum(n) from entries").Scan(&sum))
	assert.Equal(t, 4, sum)
	assert.EqualValues(t, 1, m.Stats().RolledBack.Conflict)
}
