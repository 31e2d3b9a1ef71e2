package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// dbtx is the interface that sqlc generates for pgx/v5 with its options for batches and COPY.
type dbtx interface { //nolint:interfacebloat // generated code has this one
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

var _ dbtx = (*txn.Manager)(nil)

// store writes and reads with every query method. It returns the names that are visible to it.
func store(ctx context.Context, q dbtx, prefix string) ([]string, error) {
	if _, err := q.Exec(ctx, "insert into entries (name) values ($1)", prefix+"exec"); err != nil {
		return nil, err
	}
	var name string
	if err := q.QueryRow(ctx, "insert into entries (name) values ($1) returning name", prefix+"row").Scan(&name); err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue("insert into entries (name) values ($1)", prefix+"batch1")
	batch.Queue("insert into entries (name) values ($1) returning name", prefix+"batch2")
	batch.Queue("select name from entries limit 1")
	results := q.SendBatch(ctx, batch)
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	if err := results.QueryRow().Scan(&name); err != nil {
		return nil, err
	}
	rows, err := results.Query() //nolint:rowserrcheck // errors come with the batch's Close
	if err != nil {
		return nil, err
	}
	rows.Close()
	if err := results.Close(); err != nil {
		return nil, err
	}
	source := pgx.CopyFromRows([][]any{{prefix + "copy1"}, {prefix + "copy2"}})
	if n, err := q.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"name"}, source); err != nil || n != 2 {
		return nil, fmt.Errorf("copied %d: %w", n, err)
	}
	rows, err = q.Query(ctx, "select name from entries where name like $1 order by name", prefix+"%")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func TestDo_CommitsAfterNil(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "kept") }))
	assert.Equal(t, []string{"kept"}, entries(t, m.DB()))
	requireReleased(t, m.DB())
}

func TestDo_RollsBackAfterError(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, m, "gone"))
		return errTest
	})
	assert.Equal(t, errTest, err, "the closure's error is returned unchanged")
	assert.Empty(t, entries(t, m.DB()))
	requireReleased(t, m.DB())
}

func TestManager_QueryMethodsFollowContext(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	want := func(prefix string) []string {
		return []string{prefix + "batch1", prefix + "batch2", prefix + "copy1", prefix + "copy2", prefix + "exec", prefix + "row"}
	}

	seen, err := store(t.Context(), m, "outside-")
	require.NoError(t, err)
	require.Equal(t, want("outside-"), seen)
	require.Equal(t, want("outside-"), entries(t, m.DB()), "outside a transaction every statement takes effect immediately")

	err = m.Do(t.Context(), func(ctx context.Context) error {
		seen, err := store(ctx, m, "inside-")
		require.NoError(t, err)
		assert.Equal(t, want("inside-"), seen)
		assert.Equal(t, want("outside-"), entries(t, m.DB()), "other sessions don't see the rows before the commit")
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Equal(t, want("outside-"), entries(t, m.DB()), "all rows were rolled back")
	requireReleased(t, m.DB())
}

func TestDo_UsesOneConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := store(ctx, m, "x-")
		return err
	}))
	assert.Len(t, entries(t, m.DB()), 6)
}

func TestDoValue_ReturnsValueOnlyAfterCommit(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	n, err := txn.DoValue(t.Context(), m, func(ctx context.Context) (int, error) {
		var n int
		err := m.QueryRow(ctx, "select 42").Scan(&n)
		return n, err
	})
	require.NoError(t, err)
	assert.Equal(t, 42, n)

	n, err = txn.DoValue(t.Context(), m, func(context.Context) (int, error) { return 42, errTest })
	require.ErrorIs(t, err, errTest)
	assert.Zero(t, n)
}

func TestManager_DatabasesHaveSeparateTransactions(t *testing.T) {
	t.Parallel()
	one, other := newManager(t), newManager(t)
	err := one.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, insert(ctx, one, "in one"))
		require.NoError(t, insert(ctx, other, "in other")) // not in a transaction
		_, inOther := other.Tx(ctx)
		assert.False(t, inOther)
		err := other.Do(ctx, func(ctx context.Context) error {
			mine, ok := one.Tx(ctx)
			require.True(t, ok)
			others, ok := other.Tx(ctx)
			require.True(t, ok)
			assert.NotEqual(t, mine.Conn(), others.Conn())
			require.NoError(t, insert(ctx, one, "in one too"))
			return insert(ctx, other, "in other's transaction")
		})
		require.NoError(t, err)
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Empty(t, entries(t, one.DB()))
	assert.Equal(t, []string{"in other", "in other's transaction"}, entries(t, other.DB()))
}

func TestManager_SameDatabaseSharesTransactions(t *testing.T) {
	t.Parallel()
	one := newManager(t, maxConns(1))
	other := managerOf(t, one.DB())
	err := one.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, other.Do(ctx, func(ctx context.Context) error { return insert(ctx, other, "x") }))
		return errTest
	})
	require.ErrorIs(t, err, errTest)
	assert.Empty(t, entries(t, one.DB()))
}

func TestManager_TxReturnsTransactionOfContext(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	_, ok := m.Tx(t.Context())
	assert.False(t, ok)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		tx, ok := m.Tx(ctx)
		require.True(t, ok)
		seen, err := store(ctx, tx, "tx-")
		require.NoError(t, err)
		assert.Len(t, seen, 6)
		description, err := tx.Prepare(ctx, "own", "select 1")
		require.NoError(t, err)
		assert.Equal(t, "own", description.Name)
		objects := tx.LargeObjects()
		oid, err := objects.Create(ctx, 0)
		require.NoError(t, err)
		assert.NotZero(t, oid)
		require.ErrorIs(t, tx.Commit(ctx), txn.ErrManagedTx)
		require.ErrorIs(t, tx.Rollback(ctx), txn.ErrManagedTx)
		require.NoError(t, insert(ctx, m, "still going"))
		return nil
	})
	require.NoError(t, err)
	assert.Len(t, entries(t, m.DB()), 7)
}

func TestManager_TxBeginSetsSavepoint(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	err := m.Do(t.Context(), func(ctx context.Context) error {
		tx, _ := m.Tx(ctx)
		require.NoError(t, pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "insert into entries values ('released')")
			require.NoError(t, err)
			return pgx.BeginFunc(ctx, inner, func(inner pgx.Tx) error {
				_, err := inner.Exec(ctx, "insert into entries values ('released inside')")
				return err
			})
		}))
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "insert into entries values ('released')") // a duplicate
			return err
		})
		require.Error(t, err)
		return insert(ctx, m, "afterwards")
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"afterwards", "released", "released inside"}, entries(t, m.DB()))
}

func TestOptions_ReachServer(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for _, tt := range []struct {
		opts []txn.Option
		want [3]string
	}{
		{nil, [3]string{"read committed", "off", "off"}},
		{[]txn.Option{txn.Serializable(), txn.ReadOnly(), txn.Deferrable()}, [3]string{"serializable", "on", "on"}},
		{[]txn.Option{txn.RepeatableRead(), txn.ReadWrite()}, [3]string{"repeatable read", "off", "off"}},
		{[]txn.Option{txn.Isolation(pgx.ReadUncommitted), {}}, [3]string{"read uncommitted", "off", "off"}},
	} {
		var got [3]string
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			return m.QueryRow(ctx, `select current_setting('transaction_isolation'), current_setting('transaction_read_only'),
				current_setting('transaction_deferrable')`).Scan(&got[0], &got[1], &got[2])
		}, tt.opts...))
		assert.Equal(t, tt.want, got)
	}
}

func TestWithDefaults_OptionsOfDoTakePrecedence(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t), txn.WithDefaults(txn.Serializable(), txn.ReadOnly()), txn.WithLogger(nil), txn.ManagerOption{})
	level := func(opts ...txn.Option) (got string) {
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			return m.QueryRow(ctx, "select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')").Scan(&got)
		}, opts...))
		return got
	}
	assert.Equal(t, "serializable on", level())
	assert.Equal(t, "repeatable read on", level(txn.RepeatableRead()))
	assert.Equal(t, "serializable off", level(txn.ReadWrite()))
}

func TestOptions_RejectInvalidValues(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	called := false
	fn := func(context.Context) error { called = true; return nil }
	require.ErrorContains(t, m.Do(t.Context(), fn, txn.Isolation("chaos")), `"chaos"`)
	require.ErrorContains(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.Do(ctx, fn, txn.Isolation("chaos"))
	}), `"chaos"`)
	_, err := txn.NewManager(m.DB(), txn.WithDefaults(txn.Isolation("chaos")))
	require.ErrorContains(t, err, `"chaos"`)
	assert.False(t, called)
}

func TestManager_AcquireFuncUsesTransactionOrPool(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ctx := t.Context()
	mine := errors.New("mine")
	inTransaction := func(ctx context.Context, conn *pgx.Conn) error {
		assert.Equal(t, byte('T'), conn.PgConn().TxStatus())
		_, err := m.Exec(ctx, "select 1")
		require.ErrorIs(t, err, txn.ErrConcurrentUse, "fn uses the connection")
		_, err = conn.Exec(ctx, "insert into entries (name) values ('raw')")
		return err
	}
	require.NoError(t, m.AcquireFunc(ctx, func(_ context.Context, conn *pgx.Conn) error {
		assert.Equal(t, byte('I'), conn.PgConn().TxStatus())
		return nil
	}))
	require.ErrorIs(t, m.AcquireFunc(ctx, func(context.Context, *pgx.Conn) error { return mine }), mine)
	var ended context.Context
	require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
		ended = ctx //nolint:fatcontext // used after the end
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

func TestManager_ClosedPoolIsErrClosed(t *testing.T) {
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
