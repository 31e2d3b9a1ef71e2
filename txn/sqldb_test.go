package txn_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

const insertEntry = "insert into entries (name) values ($1)"

func TestSQL_JoinsTransactionOfContext(t *testing.T) {
	t.Parallel()
	m := managerOf(t, newDB(t, maxConns(1)), txn.WithPoolUseInTx(txn.PoolUseInTxError))
	db := m.SQL()
	assert.Same(t, db, m.SQL())
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, insertEntry, "gone")
		require.NoError(t, err)
		require.NoError(t, insert(ctx, m, "gone too"))
		var n int
		require.NoError(t, db.QueryRowContext(ctx, "select count(*) from entries").Scan(&n))
		assert.Equal(t, 2, n)
		require.NoError(t, db.PingContext(ctx))
		return errTest
	}), errTest)
	assert.Empty(t, entries(t, m.DB()))

	_, err := db.ExecContext(t.Context(), insertEntry, "outside")
	require.NoError(t, err)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		prepared, err := db.PrepareContext(ctx, insertEntry)
		require.NoError(t, err)
		defer func() { require.NoError(t, prepared.Close()) }()
		result, err := prepared.ExecContext(ctx, "inside")
		require.NoError(t, err)
		n, err := result.RowsAffected()
		assert.EqualValues(t, 1, n)
		return err
	}))
	assert.Equal(t, []string{"inside", "outside"}, entries(t, m.DB()))
	assert.Empty(t, m.DB().Leases())
}

func TestSQL_TransactionInsideDoIsSavepoint(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	db := m.SQL()
	begin := func(ctx context.Context, name string) *sql.Tx {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, insertEntry, name)
		require.NoError(t, err)
		return tx
	}
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, begin(ctx, "kept").Commit())
		require.NoError(t, begin(ctx, "gone").Rollback())
		tx := begin(ctx, "gone")
		_, err := tx.ExecContext(ctx, insertEntry, "gone") // again: the savepoint has failed
		require.ErrorContains(t, err, "23505")
		require.NoError(t, tx.Rollback())

		_, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		require.ErrorIs(t, err, txn.ErrOptionMismatch)
		_, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelLinearizable})
		require.ErrorContains(t, err, "Linearizable")
		return insert(ctx, m, "after")
	}))
	assert.Equal(t, []string{"after", "kept"}, entries(t, m.DB()))

	var left *sql.Tx
	require.ErrorContains(t, m.Do(t.Context(), func(ctx context.Context) error {
		left = begin(ctx, "left open")
		return nil
	}), "inner transaction open")
	require.ErrorIs(t, left.Rollback(), txn.ErrTxDone)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, m.Do(t.Context(), func(outer context.Context) error {
		begin(mergedContext{ctx, outer}, "cancelled")
		cancel() // database/sql rolls back in the background
		require.Eventually(t, func() bool { return db.Stats().OpenConnections == 0 }, waitTimeout, time.Millisecond)
		return insert(outer, m, "last")
	}))
	assert.Equal(t, []string{"after", "kept", "last"}, entries(t, m.DB()))
}

func TestSQL_OutsideDoHasOwnTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	db := m.SQL()
	for level, want := range map[sql.IsolationLevel]string{
		sql.LevelDefault: "read committed", sql.LevelReadUncommitted: "read uncommitted", sql.LevelReadCommitted: "read committed",
		sql.LevelSnapshot: "repeatable read", sql.LevelSerializable: "serializable",
	} {
		tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level, ReadOnly: true})
		require.NoError(t, err)
		var isolation, readOnly string
		require.NoError(t, tx.QueryRowContext(t.Context(),
			"select current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&isolation, &readOnly))
		assert.Equal(t, want, isolation)
		assert.Equal(t, "on", readOnly)
		require.NoError(t, tx.Rollback())
	}
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := tx.ExecContext(ctx, insertEntry, "own") // stays with its transaction
		require.NoError(t, err)
		return errTest
	}), errTest)
	require.NoError(t, tx.Commit())
	assert.Equal(t, []string{"own"}, entries(t, m.DB()))
	requireReleased(t, m.DB())
}

// With a limit, database/sql connects in the background, with a separate context.
func TestSQL_LimitedConnectionsKeepToTheirTransactions(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	m.SQL().SetMaxOpenConns(1)
	m.SQL().SetMaxIdleConns(1)
	ended := make(chan error)
	for range 8 {
		go func() {
			ended <- m.Do(t.Context(), func(ctx context.Context) error {
				var want, got string
				if err := m.QueryRow(ctx, "select pg_current_xact_id()::text").Scan(&want); err != nil {
					return err
				}
				for range 20 {
					if err := m.SQL().QueryRowContext(ctx, "select pg_current_xact_id()::text").Scan(&got); err != nil {
						return err
					}
					assert.Equal(t, want, got)
				}
				return nil
			})
		}()
	}
	for range 8 {
		require.NoError(t, <-ended)
	}
}

func TestSQL_ConnStaysWithFirstTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	var left *sql.Conn
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		conn, err := m.SQL().Conn(ctx)
		require.NoError(t, err)
		left = conn
		pgxConn := func() (conn *pgx.Conn) {
			require.NoError(t, left.Raw(func(c any) error {
				conn = c.(interface{ Conn() *pgx.Conn }).Conn()
				return nil
			}))
			return conn
		}
		assert.Nil(t, pgxConn())
		_, err = conn.ExecContext(ctx, insertEntry, "x")
		require.NoError(t, err)
		tx, _ := m.Tx(ctx)
		assert.Same(t, tx.Conn(), pgxConn())
		return nil
	}))
	_, err := left.ExecContext(t.Context(), insertEntry, "y")
	require.ErrorIs(t, err, txn.ErrTxDone)
	require.NoError(t, left.Close())
}

func TestSQL_CancelledStatementHasContextError(t *testing.T) { //nolint:tparallel // they wait for the same sleeper
	t.Parallel()
	m := newManager(t)
	for name, run := range map[string]func(context.Context) error{
		"ExecContext": func(ctx context.Context) error {
			_, err := m.SQL().ExecContext(ctx, slowStatement)
			return err
		},
		"QueryRowContext": func(ctx context.Context) error { return m.SQL().QueryRowContext(ctx, slowStatement).Scan(new(any)) },
	} {
		t.Run(name, func(t *testing.T) {
			requireContextError(t, m.DB(), run)
			requireContextError(t, m.DB(), func(ctx context.Context) error { return m.Do(ctx, run) })
		})
	}
}

// The values and the descriptions of columns are those of pgx's driver.
func TestSQL_ReadsAsPgxDriverDoes(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for _, expression := range []string{
		"1::int2", "-2::int4", "3::int8", "1.5::float4", "-2.25::float8", "12345.678::numeric(10,3)", "'NaN'::numeric", "true", "'text'::text",
		"'v'::varchar(7)", "'c'::char(3)", "'name'::name", "'\\x0102'::bytea", "''::bytea", "date '2024-02-29'", "'infinity'::date",
		"timestamp '2024-02-29 12:34:56.789'", "timestamptz '2024-02-29 12:34:56.789+02'", "'-infinity'::timestamptz", "'infinity'::timestamp",
		"time '12:34'", "interval '1 day'", `'{"a": 1}'::json`, `'{"a": 1}'::jsonb`, "'<a/>'::xml",
		"'5f0c5d2e-0000-4000-8000-000000000001'::uuid",
		"array[1,2]", "array['a','b']::text[]", "int4range(1,5)", "'10.0.0.1'::inet", "42::oid", "'7'::xid", "'7'::cid", "B'101'::varbit(5)",
		"null::int", "null::text", "null::jsonb", "row(1,'x')", "'entries'::regclass", "generate_series(1,3)",
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			query := "select " + expression + " as value"
			want, wantType := readSQL(t, m.DB().SQL(), t.Context(), query)
			got, gotType := readSQL(t, m.SQL(), t.Context(), query)
			assert.Equal(t, want, got)
			assert.Equal(t, wantType, gotType)
			require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
				got, gotType = readSQL(t, m.SQL(), ctx, query)
				return nil
			}))
			assert.Equal(t, want, got)
			assert.Equal(t, wantType, gotType)
		})
	}
}

// readSQL returns the values of a query's column and its description.
func readSQL(t *testing.T, db *sql.DB, ctx context.Context, query string) (values, description []any) { //nolint:revive // t comes first
	t.Helper()
	rows, err := db.QueryContext(ctx, query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.ColumnTypes()
	require.NoError(t, err)
	length, variable := columns[0].Length()
	precision, scale, decimal := columns[0].DecimalSize()
	description = []any{columns[0].Name(), columns[0].DatabaseTypeName(), columns[0].ScanType(), length, variable, precision, scale, decimal}
	for rows.Next() {
		var value any
		require.NoError(t, rows.Scan(&value))
		values = append(values, value)
	}
	require.NoError(t, rows.Err())
	return values, description
}

func TestSQL_ReportsErrorsOfStatements(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	check := func(ctx context.Context) {
		require.ErrorContains(t, m.SQL().QueryRowContext(ctx, "select 1 / 0").Scan(new(int)), "22012")
	}
	check(t.Context())
	require.ErrorContains(t, m.Do(t.Context(), func(ctx context.Context) error { check(ctx); return nil }), "22012")
	rows, err := m.SQL().QueryContext(t.Context(), "select 1 / (2 - n) from generate_series(1, 3) n")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	assert.True(t, rows.Next())
	assert.False(t, rows.Next())
	require.ErrorContains(t, rows.Err(), "22012")
	_, err = m.SQL().ExecContext(t.Context(), "selekt")
	require.ErrorContains(t, err, "42601")
	var ended context.Context
	inTx(t, m, func(ctx context.Context) { ended = ctx }) //nolint:fatcontext // on purpose
	require.ErrorIs(t, m.SQL().PingContext(ended), txn.ErrTxDone)

	require.NoError(t, m.Close(t.Context()))
	require.EqualError(t, m.SQL().PingContext(t.Context()), "sql: database is closed")
	m = newManager(t)
	require.NoError(t, m.DB().Close(t.Context()))
	require.ErrorIs(t, m.SQL().PingContext(t.Context()), pgfx.ErrClosed)
}
