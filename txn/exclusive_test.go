package txn_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// requireRefused checks that every use of the transaction of ctx returns want.
func requireRefused(ctx context.Context, t *testing.T, m *txn.Manager, tx pgx.Tx, want error) {
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
		requireTxRefused(ctx, t, tx, want)
	}
}

func requireTxRefused(ctx context.Context, t *testing.T, tx pgx.Tx, want error) {
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

func TestDo_ContextIsUnusableAfterwards(t *testing.T) {
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
		requireRefused(leaked, t, m, tx, txn.ErrTxDone)
		require.ErrorIs(t, m.Do(leaked, func(context.Context) error { t.Error("the closure ran"); return nil }), txn.ErrTxDone)
		_, ok := m.Tx(leaked)
		assert.False(t, ok)
		assert.Empty(t, entries(t, m.DB()), "no statement ran on the pool instead")
	}
}

func TestConcurrentUse_OpenResult(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		tx, _ := m.Tx(ctx)
		for range 8 {
			rows, err := m.Query(ctx, "select n, 'x' from generate_series(1, 3) n")
			require.NoError(t, err)
			require.True(t, rows.Next())
			requireRefused(ctx, t, m, tx, txn.ErrConcurrentUse)
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
		requireRefused(ctx, t, m, tx, txn.ErrConcurrentUse)
		var n int
		require.NoError(t, row.Scan(&n))
		require.Error(t, row.Scan(&n), "a row can be scanned only once")

		batch := &pgx.Batch{}
		batch.Queue("select 1")
		results := m.SendBatch(ctx, batch)
		requireRefused(ctx, t, m, tx, txn.ErrConcurrentUse)
		require.NoError(t, results.Close())
		require.NoError(t, results.Close(), "Close is idempotent")

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

func TestConcurrentUse_ManyGoroutines(t *testing.T) {
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
	requireReleased(t, m.DB())
}

func TestConcurrentUse_RunningStatementIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, result := range []error{nil, errTest} {
		m := newManager(t, maxConns(1))
		requireUnharmed(t, m, func() {
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
	}, waitTimeout, 2e6)
}

func TestConcurrentUse_ReaderGetsErrTxDoneAfterEnd(t *testing.T) {
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
	requireReleased(t, m.DB())
}

func TestConcurrentUse_ReaderIsStoppedAtEnd(t *testing.T) {
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
		requireReleased(t, m.DB())
	}
}

func TestConcurrentUse_OpenResultIsNotCommitted(t *testing.T) {
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
	requireReleased(t, m.DB())
	assert.Empty(t, entries(t, m.DB()))
}

func TestConcurrentUse_BatchRowsGetErrTxDoneAfterEnd(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	var rows pgx.Rows
	err := m.Do(t.Context(), func(ctx context.Context) error {
		batch := &pgx.Batch{}
		batch.Queue("select generate_series(1, 1000000)")
		var err error
		rows, err = m.SendBatch(ctx, batch).Query() //nolint:rowserrcheck,sqlclosecheck // left open on purpose
		require.NoError(t, err)
		require.True(t, rows.Next())
		return nil
	})
	require.ErrorIs(t, err, txn.ErrConcurrentUse)
	requireReleased(t, m.DB())
	assert.False(t, rows.Next())
	require.ErrorIs(t, rows.Err(), txn.ErrTxDone)
	require.ErrorIs(t, rows.Scan(nil), txn.ErrTxDone)
	rows.Close()
}

func TestConcurrentUse_HangingCallReleasesConnectionItself(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	using, goOn, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		go func() {
			left <- m.AcquireFunc(ctx, func(context.Context, *pgx.Conn) error {
				close(using)
				<-goOn // longer than Do waits
				return errTest
			})
		}()
		<-using
		return nil
	})
	require.ErrorIs(t, err, txn.ErrConcurrentUse)
	assert.Equal(t, 1, m.DB().Stats().Pool.InUse, "the call still has the connection")
	close(goOn)
	require.ErrorIs(t, <-left, errTest)
	requireReleased(t, m.DB())
	assert.EqualValues(t, 1, m.Stats().RolledBack.InvalidUse)
}
