package txn_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// refused checks that every way to use the transaction of ctx ends in want.
func refused(ctx context.Context, t *testing.T, m *txn.Manager, tx pgx.Tx, want error) {
	t.Helper()
	_, err := m.Exec(ctx, "select 1")
	require.ErrorIs(t, err, want, "Exec")
	rows, err := m.Query(ctx, "select 1")
	require.ErrorIs(t, err, want, "Query")
	assert.False(t, rows.Next())
	rows.Close()
	require.ErrorIs(t, rows.Err(), want)
	require.ErrorIs(t, rows.Scan(), want)
	_, err = rows.Values()
	require.ErrorIs(t, err, want)
	assert.Nil(t, rows.FieldDescriptions())
	assert.Nil(t, rows.RawValues())
	assert.Nil(t, rows.Conn())
	assert.Nil(t, rows.TypeMap())
	assert.Empty(t, rows.CommandTag().String())
	require.ErrorIs(t, m.QueryRow(ctx, "select 1").Scan(), want, "QueryRow")
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	require.ErrorIs(t, m.SendBatch(ctx, batch).Close(), want, "SendBatch")
	_, err = m.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"name"}, pgx.CopyFromRows(nil))
	require.ErrorIs(t, err, want, "CopyFrom")
	if tx != nil {
		refusedTx(ctx, t, tx, want)
	}
}

func refusedTx(ctx context.Context, t *testing.T, tx pgx.Tx, want error) {
	t.Helper()
	_, err := tx.Exec(ctx, "select 1")
	require.ErrorIs(t, err, want)
	_, err = tx.Query(ctx, "select 1") //nolint:gocritic,rowserrcheck,sqlclosecheck // refused
	require.ErrorIs(t, err, want)
	require.ErrorIs(t, tx.QueryRow(ctx, "select 1").Scan(), want)
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	require.ErrorIs(t, tx.SendBatch(ctx, batch).Close(), want)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"name"}, pgx.CopyFromRows(nil))
	require.ErrorIs(t, err, want)
	_, err = tx.Prepare(ctx, "x", "select 1")
	require.ErrorIs(t, err, want)
	_, err = tx.Begin(ctx)
	require.ErrorIs(t, err, want)
}

func TestTheContextOfAFinishedTransactionIsUseless(t *testing.T) {
	t.Parallel()
	for _, result := range []error{nil, errTest} {
		m := newManager(t, maxConns(1))
		var (
			leaked context.Context
			tx     pgx.Tx
		)
		require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
			leaked = ctx //nolint:fatcontext // on purpose
			tx, _ = m.Tx(ctx)
			return result
		}), result)
		refused(leaked, t, m, tx, txn.ErrTxDone)
		require.ErrorIs(t, m.Do(leaked, func(context.Context) error { t.Error("the closure ran"); return nil }), txn.ErrTxDone)
		_, ok := m.Tx(leaked)
		assert.False(t, ok)
		assert.Empty(t, entries(t, m.DB()), "nothing reached the pool instead")
	}
}

func TestAnOpenResultRefusesASecondUser(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		tx, _ := m.Tx(ctx)
		for range 8 { // beyond the results that are part of the transaction
			rows, err := m.Query(ctx, "select n, 'x' from generate_series(1, 3) n")
			require.NoError(t, err)
			require.True(t, rows.Next())
			refused(ctx, t, m, tx, txn.ErrConcurrentUse)
			values, err := rows.Values()
			require.NoError(t, err)
			assert.Equal(t, []any{int32(1), "x"}, values)
			assert.Len(t, rows.RawValues(), 2)
			assert.Len(t, rows.FieldDescriptions(), 2)
			assert.NotNil(t, rows.TypeMap())
			assert.Same(t, tx.Conn(), rows.Conn())
			var n int
			require.Error(t, rows.Scan(&n), "too few destinations")
			require.NoError(t, insertOnce(ctx, m), "the failed scan has closed the rows")
			require.Error(t, rows.Scan(&n))
			_, err = rows.Values()
			require.Error(t, err)
			assert.False(t, rows.Next())
			rows.Close()
			require.Error(t, rows.Err())
		}

		row := m.QueryRow(ctx, "select 1")
		refused(ctx, t, m, tx, txn.ErrConcurrentUse)
		var n int
		require.NoError(t, row.Scan(&n))
		require.Error(t, row.Scan(&n), "a row is scanned once")

		batch := &pgx.Batch{}
		batch.Queue("select 1")
		results := m.SendBatch(ctx, batch)
		refused(ctx, t, m, tx, txn.ErrConcurrentUse)
		require.NoError(t, results.Close())
		require.NoError(t, results.Close(), "closing twice is fine")

		rows, err := m.Query(ctx, "select 1")
		require.NoError(t, err)
		rows.Close()
		assert.Equal(t, "SELECT 1", rows.CommandTag().String())
		return rows.Err()
	}))
}

func insertOnce(ctx context.Context, m *txn.Manager) error {
	_, err := m.Exec(ctx, "insert into entries values ('x') on conflict do nothing")
	return err
}

func TestManyGoroutinesOnOneTransactionGetClearErrors(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_ = m.Do(t.Context(), func(ctx context.Context) error {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 50 {
					var err error
					if i%2 == 0 {
						_, err = m.Exec(ctx, "select 1")
					} else {
						var rows pgx.Rows
						if rows, err = m.Query(ctx, "select generate_series(1, 100)"); err == nil {
							_, err = pgx.CollectRows(rows, pgx.RowTo[int])
						}
					}
					if err != nil {
						assert.ErrorIs(t, err, txn.ErrConcurrentUse)
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	settled(t, m.DB())
}

func TestAGoroutineLeftBehindInAStatementIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, result := range []error{nil, errTest} {
		m := newManager(t, maxConns(1))
		unharmed(t, m, func() {
			left := make(chan error, 1)
			err := m.Do(t.Context(), func(ctx context.Context) error {
				require.NoError(t, insert(ctx, m, "gone"))
				go func() {
					_, err := m.Exec(ctx, "select pg_sleep(60)")
					left <- err
				}()
				running(t, m.DB(), "select pg_sleep(60)")
				return result
			})
			if result == nil {
				require.ErrorIs(t, err, txn.ErrConcurrentUse)
			} else {
				require.ErrorIs(t, err, result)
			}
			require.ErrorContains(t, <-left, "57014")
		})
	}
}

// running waits until a statement runs on the server.
func running(t *testing.T, db *pgfx.DB, statement string) {
	t.Helper()
	conn, err := db.Connect(t.Context(), "test")
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		var n int
		err := conn.QueryRow(context.Background(), `select count(*) from pg_stat_activity
			where query = $1 and state = 'active' and datname = current_database()`, statement).Scan(&n)
		return err == nil && n > 0
	}, patience, 2e6)
}

func TestAGoroutineLeftBehindWithAResultReadsNothingAnyMore(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	reading, goOn, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		go func() {
			rows, err := m.Query(ctx, "select generate_series(1, 1000000)")
			assert.NoError(t, err)
			assert.True(t, rows.Next())
			close(reading)
			<-goOn
			for rows.Next() {
				_ = rows.Scan(nil)
			}
			left <- rows.Err()
		}()
		<-reading
		return nil
	})
	require.ErrorIs(t, err, txn.ErrConcurrentUse)
	close(goOn)
	require.ErrorIs(t, <-left, txn.ErrTxDone)
	settled(t, m.DB())
}

func TestAReaderThatGoesOnWhileTheTransactionEndsIsCut(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for range 10 {
		reading, left := make(chan struct{}), make(chan error, 1)
		err := m.Do(t.Context(), func(ctx context.Context) error {
			go func() {
				rows, err := m.Query(ctx, "select generate_series(1, 100000000)")
				assert.NoError(t, err)
				assert.True(t, rows.Next())
				close(reading)
				for rows.Next() {
				}
				left <- rows.Err()
			}()
			<-reading
			return nil
		})
		require.ErrorIs(t, err, txn.ErrConcurrentUse)
		require.Error(t, <-left)
		settled(t, m.DB())
	}
}

func TestAResultLeftOpenIsNotCommitted(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	batch.Queue("select 1")
	var results pgx.BatchResults
	for name, open := range map[string]func(ctx context.Context){
		"rows":  func(ctx context.Context) { _, _ = m.Query(ctx, "select 1") }, //nolint:gocritic,rowserrcheck,sqlclosecheck // on purpose
		"row":   func(ctx context.Context) { m.QueryRow(ctx, "select 1") },
		"batch": func(ctx context.Context) { results = m.SendBatch(ctx, batch) },
	} {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, name))
			open(ctx)
			return nil
		})
		require.ErrorIs(t, err, txn.ErrConcurrentUse, name)
		require.ErrorContains(t, err, "result open", name)
	}
	require.ErrorIs(t, results.Close(), txn.ErrTxDone)
	_, err := results.Exec()
	require.ErrorIs(t, err, txn.ErrTxDone)
	_, err = results.Query() //nolint:gocritic,rowserrcheck,sqlclosecheck // refused
	require.ErrorIs(t, err, txn.ErrTxDone)
	require.ErrorIs(t, results.QueryRow().Scan(), txn.ErrTxDone)
	settled(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

func TestThePoolInsideOfATransactionIsAnErrorWhereWanted(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t), txn.WithPoolUseInTx(txn.PoolUseInTxError))
	other := newManager(t)
	inside(t, m, func(ctx context.Context) {
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
			require.ErrorIs(t, err, txn.ErrPoolInTransaction, "in the new one as well")
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

func TestThePoolInsideOfATransactionIsWarnedAboutOnceForEachPlace(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	m := managerOf(t, newDB(t), txn.WithLogger(zap.New(core)))
	inside(t, m, func(ctx context.Context) {
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
	for _, line := range found { // of database/sql, too, the caller is named
		assert.Contains(t, line.ContextMap()["caller"], "TestThePoolInsideOfATransactionIsWarnedAboutOnceForEachPlace")
	}
	assert.Equal(t, "txn", found[0].LoggerName)
}

func TestThePoolInsideOfATransactionCanBeIgnored(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	m := managerOf(t, newDB(t), txn.WithLogger(zap.New(core)), txn.WithPoolUseInTx(txn.PoolUseInTxIgnore))
	inside(t, m, func(ctx context.Context) {
		_, err := m.DB().Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.Zero(t, logs.Len())
	_, err := txn.NewManager(m.DB(), txn.WithPoolUseInTx(9))
	require.ErrorContains(t, err, "WithPoolUseInTx(9)")
}

func TestWithConnGivesTheConnectionOfTheTransactionOrOneOfThePool(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ctx := t.Context()
	mine := errors.New("mine")
	inTransaction := func(ctx context.Context, conn *pgx.Conn) error {
		assert.Equal(t, byte('T'), conn.PgConn().TxStatus())
		_, err := m.Exec(ctx, "select 1")
		require.ErrorIs(t, err, txn.ErrConcurrentUse, "it is in use")
		_, err = conn.Exec(ctx, "insert into entries (name) values ('by hand')")
		return err
	}
	require.NoError(t, m.AcquireFunc(ctx, func(_ context.Context, conn *pgx.Conn) error {
		assert.Equal(t, byte('I'), conn.PgConn().TxStatus())
		return nil
	}))
	require.ErrorIs(t, m.AcquireFunc(ctx, func(context.Context, *pgx.Conn) error { return mine }), mine)
	var ended context.Context
	require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
		ended = ctx //nolint:fatcontext // to use it too late
		return m.AcquireFunc(ctx, inTransaction)
	}))
	require.ErrorIs(t, m.AcquireFunc(ended, inTransaction), txn.ErrTxDone)
	err := m.Do(ctx, func(ctx context.Context) error {
		_ = m.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "select 1 / 0")
			return err
		})
		return nil
	})
	var failed *txn.FailedStatementError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, failed.Cause, "division by zero")
}

func TestAClosureThatEndsTheTransactionByItselfIsFoundAlthoughAnotherOneRuns(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for _, sql := range []string{"commit and chain", "commit; begin", "commit; start transaction", "commit"} {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, sql)
			return err
		})
		require.ErrorContains(t, err, "leave commit and rollback to Do", sql)
	}
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "savepoint s; rollback to s; release s")
		require.NoError(t, err)
		_, err = m.Exec(ctx, "begin")
		return err
	}))
	calls := 0
	err := m.Do(t.Context(), func(ctx context.Context) error {
		calls++
		_, err := m.Exec(ctx, "commit and chain")
		require.NoError(t, err)
		_, err = m.Exec(ctx, "do $$ begin raise exception 'again' using errcode = '40001'; end $$")
		return err
	}, txn.Retry(pgfx.RetryPolicy{MaxAttempts: 3, Delay: time.Millisecond}))
	require.ErrorContains(t, err, "40001")
	require.ErrorContains(t, err, "leave commit and rollback to Do")
	assert.Equal(t, 1, calls, "what was committed must not be done again")
}

func TestWhoHasPassedTheGateWhenTheDatabaseIsClosedIsToldSo(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	m.DB().Pool().Close() // the gate is still open
	_, err := m.Exec(t.Context(), "select 1")
	require.EqualError(t, err, "closed pool")
	require.NoError(t, m.DB().Close(t.Context()))
	calls := map[string]func(context.Context) error{
		"Do":   func(ctx context.Context) error { return m.Do(ctx, func(context.Context) error { return nil }) },
		"Exec": func(ctx context.Context) error { _, err := m.Exec(ctx, "select 1"); return err },
		"Query": func(ctx context.Context) error {
			rows, err := m.Query(ctx, "select 1")
			rows.Close()
			return errors.Join(err, rows.Err())
		},
	}
	for name, call := range calls {
		require.ErrorIs(t, call(t.Context()), pgfx.ErrClosed, name)
		require.ErrorIs(t, call(t.Context()), pgfx.ErrUnavailable, name)
	}
}
