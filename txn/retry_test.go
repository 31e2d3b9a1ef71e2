package txn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// fastPolicy allows many attempts with short waits.
var fastPolicy = txn.Retry(pgfx.RetryPolicy{
	MaxAttempts: 1000, MaxElapsed: waitTimeout, Delay: time.Millisecond, MaxDelay: 20 * time.Millisecond,
})

// fail runs a statement that fails with this SQLSTATE.
func fail(ctx context.Context, m *txn.Manager, code string) error {
	_, err := m.Exec(ctx, fmt.Sprintf(`do $$ begin raise exception 'made up' using errcode = '%s'; end $$`, code))
	return err
}

func TestRetry_RunsWholeClosureAgain(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, code := range []string{"40001", "40P01"} {
		var (
			d        hookLog
			attempts []int
		)
		name := "x" + code
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			attempts = append(attempts, txn.Attempt(ctx))
			d.hook(ctx, t, strconv.Itoa(txn.Attempt(ctx)))
			require.NoError(t, insert(ctx, m, name), "the previous attempt left no changes")
			if txn.Attempt(ctx) < 3 {
				err := fail(ctx, m, code)
				require.Error(t, err)
				return err
			}
			return nil
		}, fastPolicy))
		assert.Equal(t, []int{1, 2, 3}, attempts)
		assert.Len(t, d, 4)
		assert.Equal(t, hookLog{"3 before", "3 after"}, d[2:], "the hooks of failed attempts are dropped")
	}
	assert.Equal(t, []string{"x40001", "x40P01"}, entries(t, m.DB()))
	assert.EqualValues(t, 4, m.Stats().Retried)
	assert.EqualValues(t, 4, m.Stats().RolledBack.Serialization)
	assert.Zero(t, txn.Attempt(t.Context()))
}

func TestRetry_DetectsHiddenSerializationFailure(t *testing.T) {
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
		}, fastPolicy))
		assert.Equal(t, 2, calls)
	}
}

func TestRetry_OnlySerializationFailures(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for name, closure := range map[string]func(ctx context.Context) error{
		"own error":           func(context.Context) error { return errTest },
		"constraint":          func(ctx context.Context) error { return fail(ctx, m, "23505") },
		"cancelled statement": func(ctx context.Context) error { return fail(ctx, m, "57014") },
		"lost connection": func(ctx context.Context) error {
			_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			return err
		},
		"an error that was rolled back to a savepoint": func(ctx context.Context) error {
			_ = m.Do(ctx, func(ctx context.Context) error { return fail(ctx, m, "40001") }, txn.Nested())
			return errTest
		},
	} {
		calls := 0
		require.Error(t, m.Do(t.Context(), func(ctx context.Context) error { calls++; return closure(ctx) }, fastPolicy), name)
		assert.Equal(t, 1, calls, name)
	}
}

func TestRetry_IsOffByDefault(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, opts := range [][]txn.Option{nil, {txn.Retry(pgfx.RetryPolicy{MaxAttempts: 1})}} {
		calls := 0
		err := m.Do(t.Context(), func(ctx context.Context) error { calls++; return fail(ctx, m, "40001") }, opts...)
		require.ErrorContains(t, err, "40001")
		assert.Equal(t, 1, calls)
	}
}

func TestRetry_EndsWithItsPolicy(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	calls := 0
	always := func(ctx context.Context) error { calls++; return fail(ctx, m, "40001") }

	err := m.Do(t.Context(), always, txn.Retry(pgfx.RetryPolicy{MaxAttempts: 3, Delay: time.Nanosecond}))
	require.ErrorContains(t, err, "gave up after 3 attempts")
	var conflict *pgconn.PgError
	require.ErrorAs(t, err, &conflict)
	retries, ok := errors.AsType[*pgfx.RetryError](err)
	require.True(t, ok)
	assert.Equal(t, 3, retries.Attempts)
	assert.Equal(t, 3, calls)

	calls = 0
	err = m.Do(t.Context(), always, txn.Retry(pgfx.RetryPolicy{MaxElapsed: time.Nanosecond}))
	require.ErrorContains(t, err, "40001")
	assert.NotErrorAs(t, err, &retries)
	assert.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(t.Context())
	err = m.Do(ctx, func(ctx context.Context) error {
		err := fail(ctx, m, "40001")
		context.AfterFunc(ctx, func() {})
		time.AfterFunc(time.Millisecond, cancel)
		return err
	}, txn.Retry(pgfx.RetryPolicy{Delay: time.Hour, MaxElapsed: 2 * time.Hour}))
	require.ErrorContains(t, err, "40001", "a cancelled wait ends with what went wrong")
}

func TestRetry_OnlyOutermostDo(t *testing.T) {
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
			}, opt, fastPolicy)
		}, fastPolicy))
		assert.Equal(t, 2, outer)
		assert.Equal(t, 2, inner)
	}
}

// idempotentPolicy also retries after lost connections.
var idempotentPolicy = txn.Retry(pgfx.RetryPolicy{Delay: time.Millisecond, Idempotency: pgfx.Idempotent})

func terminated(ctx context.Context, m *txn.Manager) error {
	_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
	return err
}

func TestRetry_LostConnectionIfIdempotent(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for name, lose := range map[string]func(ctx context.Context) error{
		"terminated": func(ctx context.Context) error { return terminated(ctx, m) },
		"socket closed": func(ctx context.Context) error {
			tx, _ := m.Tx(ctx)
			require.NoError(t, tx.Conn().PgConn().Conn().Close())
			_, err := m.Exec(ctx, "select 1")
			return err
		},
		"read-only server": func(ctx context.Context) error { return fail(ctx, m, "25006") },
	} {
		calls, before := 0, openedConns(m.DB())
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, name))
			if calls++; calls == 1 {
				return lose(ctx)
			}
			return nil
		}, idempotentPolicy), name)
		assert.Equal(t, 2, calls, name)
		assert.Equal(t, before+1, openedConns(m.DB()), "%s: the next attempt has another connection", name)
	}
	assert.Len(t, entries(t, m.DB()), 3)

	calls := 0
	err := m.Do(t.Context(), func(context.Context) error { calls++; return io.ErrUnexpectedEOF }, idempotentPolicy)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, 1, calls, "the closure has lost another connection")
}

func TestRetry_LeavesReadOnlyServer(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, tt := range []struct {
		opts  []txn.Option
		calls int
	}{
		{[]txn.Option{fastPolicy}, 2},
		{[]txn.Option{fastPolicy, txn.ReadOnly()}, 1}, // a read-only transaction fails on every server
		{nil, 1},
	} {
		calls, before := 0, openedConns(m.DB())
		err := m.Do(t.Context(), func(ctx context.Context) error {
			if calls++; calls == 1 {
				return fail(ctx, m, "25006")
			}
			return nil
		}, tt.opts...)
		assert.Equal(t, tt.calls, calls)
		assert.Equal(t, tt.calls == 2, err == nil)
		assert.EqualValues(t, tt.calls-1, openedConns(m.DB())-before)
	}
}

func TestRetry_PoolBudgetLimitsOutagesOnly(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	attempts := func(policy pgfx.RetryPolicy, lose func(ctx context.Context) error) (calls int) {
		policy.MaxAttempts, policy.Delay, policy.MaxDelay = 2*pgfx.DefaultRetryReserve, time.Nanosecond, time.Nanosecond
		require.Error(t, m.Do(t.Context(), func(ctx context.Context) error { calls++; return lose(ctx) }, txn.Retry(policy)))
		return calls
	}
	conflict := func(ctx context.Context) error { return fail(ctx, m, "40001") }
	for range 5 {
		assert.Equal(t, 2*pgfx.DefaultRetryReserve, attempts(pgfx.RetryPolicy{}, conflict))
	}
	assert.Equal(t, 2, attempts(pgfx.RetryPolicy{Budget: pgfx.NewRetryBudget(0, 1)}, conflict), "a separate budget limits all retries")
	assert.Zero(t, m.DB().Stats().Retries.Retries)
	attempts(pgfx.RetryPolicy{Idempotency: pgfx.Idempotent}, func(ctx context.Context) error { return terminated(ctx, m) })
	attempts(pgfx.RetryPolicy{Idempotency: pgfx.Idempotent}, func(ctx context.Context) error { return terminated(ctx, m) })
	assert.Positive(t, m.DB().Stats().Retries.Refused)
}

func TestManager_RetriesUnsentStatements(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	m := managerOf(t, openDB(t, proxy.URL(), maxConns(1), func(c *pgfx.Config) {
		c.Retry = pgfx.RetryConfig{MaxAttempts: 1000, Delay: 5 * time.Millisecond, MaxDelay: 5 * time.Millisecond, Budget: pgfx.Off}
	}))
	for name, work := range map[string]func(ctx context.Context) error{
		"exec": func(ctx context.Context) error { return insert(ctx, m, "exec") },
		"query": func(ctx context.Context) error {
			rows, err := m.Query(ctx, "insert into entries values ('query')")
			rows.Close()
			return errors.Join(err, rows.Err())
		},
		"query row": func(ctx context.Context) error {
			var name string
			return m.QueryRow(ctx, "insert into entries values ('row') returning name").Scan(&name)
		},
		"batch": func(ctx context.Context) error {
			batch := &pgx.Batch{}
			batch.Queue("insert into entries values ('batch')")
			return m.SendBatch(ctx, batch).Close()
		},
		"copy": func(ctx context.Context) error {
			_, err := m.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"name"}, pgx.CopyFromRows([][]any{{"copy"}}))
			return err
		},
		"transaction": func(ctx context.Context) error {
			return m.Do(ctx, func(ctx context.Context) error { return insert(ctx, m, "transaction") })
		},
	} {
		proxy.AcceptThenReset(faults.OnAccept)
		proxy.ResetConnections()
		m.DB().Reset()
		before := proxy.Accepted()
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		done := make(chan error, 1)
		go func() { done <- work(ctx) }()
		awaited := proxy.AwaitAccepted(ctx, before+3)
		proxy.Heal()
		require.NoError(t, <-done, name)
		require.NoError(t, awaited, name)
		cancel()
		requireReleased(t, m.DB())
	}
	assert.Len(t, entries(t, m.DB()), 6, "each row once")
}

func TestManager_NeverRetriesSentStatements(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), "create sequence calls")
	require.NoError(t, err)
	const once = "select pg_terminate_backend(pg_backend_pid()), nextval('calls')"
	_, err = m.Exec(t.Context(), once)
	require.ErrorContains(t, err, "57P01")
	require.ErrorContains(t, m.QueryRow(t.Context(), once).Scan(nil, nil), "57P01")
	rows, _ := m.Query(t.Context(), once)
	rows.Close()
	require.ErrorContains(t, rows.Err(), "57P01")
	assert.Zero(t, m.DB().Stats().Retries.Retries)
}

func TestRetry_RejectsInvalidPolicy(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, policy := range []pgfx.RetryPolicy{
		{MaxAttempts: -2}, {MaxElapsed: -2}, {Delay: -1}, {MaxDelay: -1}, {Multiplier: 0.5}, {Multiplier: math.NaN()},
	} {
		require.ErrorContains(t, m.Do(t.Context(), neverCalled(t), txn.Retry(policy)), "txn: Retry")
	}
}

func TestRetry_SerializableWritersLoseNoUpdate(t *testing.T) {
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
					}, level, fastPolicy))
				}
			})
		}
		wg.Wait()
		var n int
		require.NoError(t, m.QueryRow(t.Context(), "select n from entries").Scan(&n))
		assert.Equal(t, workers*rounds, n)
	}
	assert.Positive(t, m.Stats().Retried, "a serialization failure was retried")
}

func TestRetry_PreventsWriteSkew(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(8))
	ctx := t.Context()
	for range 5 {
		_, err := m.Exec(ctx, "delete from entries; insert into entries values ('ann', 1), ('bob', 1)")
		require.NoError(t, err)
		var wg, both sync.WaitGroup
		both.Add(2)
		for _, name := range []string{"ann", "bob"} { // each goes off duty if the other one stays
			wg.Go(func() {
				assert.NoError(t, m.Do(ctx, func(ctx context.Context) error {
					var onDuty int
					if err := m.QueryRow(ctx, "select count(*) from entries where n = 1").Scan(&onDuty); err != nil {
						return err
					}
					if txn.Attempt(ctx) == 1 {
						both.Done()
						both.Wait() // both read before either writes
					}
					if onDuty < 2 {
						return nil
					}
					_, err := m.Exec(ctx, "update entries set n = 0 where name = $1", name)
					return err
				}, txn.Serializable(), fastPolicy))
			})
		}
		wg.Wait()
		var onDuty int
		require.NoError(t, m.QueryRow(ctx, "select count(*) from entries where n = 1").Scan(&onDuty))
		require.Equal(t, 1, onDuty)
	}
}

func TestRetry_ResolvesDeadlock(t *testing.T) {
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
			}, fastPolicy))
		})
	}
	wg.Wait()
	var sum int
	require.NoError(t, m.QueryRow(ctx, "select sum(n) from entries").Scan(&sum))
	assert.Equal(t, 4, sum)
	assert.Positive(t, m.Stats().RolledBack.Serialization) // more than one if the victim retries before the other one continues
}

// Another session changes a type after a connection has prepared a statement for it. The server then refuses the statement once.
func TestRetry_OutdatedStatement(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), "create type pair as (a int); create table pairs of pair")
	require.NoError(t, err)
	read := func(ctx context.Context) error {
		rows, err := m.Query(ctx, "select * from pairs")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	}
	require.NoError(t, m.Do(t.Context(), read))
	for i, change := range []string{
		"alter type pair add attribute b int cascade", "alter type pair add attribute c int cascade",
		"alter type pair alter attribute a type text cascade",
	} {
		conn, err := m.DB().Connect(t.Context(), "test")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), change)
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		if i == 0 {
			require.ErrorContains(t, m.Do(t.Context(), read), "0A000")
			require.NoError(t, m.Do(t.Context(), read), "prepared again")
			continue
		}
		attempts := 0
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			attempts = txn.Attempt(ctx)
			return read(ctx)
		}, txn.Retry(pgfx.RetryPolicy{})))
		assert.Equal(t, 2, attempts, change)
	}
}
