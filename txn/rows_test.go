package txn_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// pair scans a whole row.
type pair struct{ a, b int }

func (p *pair) ScanRow(rows pgx.Rows) error { return rows.Scan(&p.a, &p.b) }

// fragile panics when a value is scanned into it.
type fragile struct{}

func (*fragile) Scan(any) error { panic(errTest) }

// The results are compared with those of the pool, inside and outside a transaction.
func TestQueryRow_ScansAsPgxDoes(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for name, c := range map[string]struct {
		sql  string
		args []any
		dest func() []any
	}{
		"values":               {"select 1, 'two', null::text", nil, func() []any { return []any{new(int), new(string), new(*string)} }},
		"a column left out":    {"select 1, 2", nil, func() []any { return []any{nil, new(int)} }},
		"the first of rows":    {"select generate_series(1, 9)", nil, func() []any { return []any{new(int)} }},
		"a row scanner":        {"select 1, 2", nil, func() []any { return []any{new(pair)} }},
		"too many for it":      {"select 1, 2, 3", nil, func() []any { return []any{new(pair)} }},
		"no row":               {"select 1 where false", nil, func() []any { return []any{new(int)} }},
		"no statement":         {"", nil, func() []any { return []any{new(int)} }},
		"too few targets":      {"select 1, 2", nil, func() []any { return []any{new(int)} }},
		"the wrong type":       {"select 1, 'two'", nil, func() []any { return []any{new(int), new(int)} }},
		"a null for a number":  {"select null::int", nil, func() []any { return []any{new(int)} }},
		"out of range":         {"select 70000", nil, func() []any { return []any{new(int16)} }},
		"too few arguments":    {"select $1::int", nil, func() []any { return []any{new(int)} }},
		"a syntax error":       {"selekt 1", nil, func() []any { return []any{new(int)} }},
		"an error on the way":  {"select 1 / (2 - n) from generate_series(2, 9) n", nil, func() []any { return []any{new(int)} }},
		"an error after a row": {"select 1 / (2 - n) from generate_series(1, 9) n", nil, func() []any { return []any{new(int)} }},
		"a bigint":             {"select -5::bigint", nil, func() []any { return []any{new(int64)} }},
		"a null for a bigint":  {"select null::bigint", nil, func() []any { return []any{new(int64)} }},
		"an integer for it":    {"select 5", nil, func() []any { return []any{new(int64)} }},
		"a second column":      {"select 5::bigint, 6", nil, func() []any { return []any{new(int64)} }},
		"text format":          {"select $1::int", []any{pgx.QueryResultFormats{pgx.TextFormatCode}, 7}, func() []any { return []any{new(int)} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := c.dest()
			wantErr := m.DB().Pool().QueryRow(t.Context(), c.sql, c.args...).Scan(want...)
			same := func(ctx context.Context) {
				got := c.dest()
				row := m.QueryRow(ctx, c.sql, c.args...)
				err := row.Scan(got...)
				if wantErr == nil {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, wantErr.Error())
				}
				assert.Equal(t, want, got)
			}
			same(t.Context())
			_ = m.Do(t.Context(), func(ctx context.Context) error {
				same(ctx)
				return errTest
			})
		})
	}
}

func TestQueryRow_RefusesDriverBytes(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	scan := func(ctx context.Context) error {
		require.ErrorContains(t, m.QueryRow(ctx, "select 'x'").Scan(new(pgtype.DriverBytes)), "DriverBytes")
		return m.QueryRow(ctx, "select 1").Scan(new(int))
	}
	require.NoError(t, scan(t.Context()))
	require.NoError(t, m.Do(t.Context(), scan))
}

func TestQueryRow_PanicInScanKeepsConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		scan := func(ctx context.Context) error {
			return m.QueryRow(ctx, "select generate_series(1, 9)").Scan(new(fragile))
		}
		assert.PanicsWithValue(t, errTest, func() { _ = scan(t.Context()) })
		assert.PanicsWithValue(t, errTest, func() { _ = m.Do(t.Context(), scan) })
	})
}

func TestQuery_ManyResultsInOneTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		var all []pgx.Rows
		for i := range 50 {
			rows, err := m.Query(ctx, "select $1::int", i) //nolint:sqlclosecheck // CollectExactlyOneRow does
			require.NoError(t, err)
			n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			require.NoError(t, err)
			assert.Equal(t, i, n)
			all = append(all, rows) // they are closed
		}
		for _, rows := range all { // closed rows stay readable while later results are read
			require.NoError(t, rows.Err())
			assert.EqualValues(t, 1, rows.CommandTag().RowsAffected())
		}
		return nil
	}))
}

func TestQuery_AfterEndReturnsErrTxDone(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ended, err := txn.DoValue(t.Context(), m, func(ctx context.Context) (context.Context, error) { return ctx, nil })
	require.NoError(t, err)
	rows, err := m.Query(ended, "select 1")
	require.ErrorIs(t, err, txn.ErrTxDone)
	defer rows.Close()
	assert.False(t, rows.Next())
	require.ErrorIs(t, rows.Scan(new(int)), txn.ErrTxDone)
	_, err = rows.Values()
	require.ErrorIs(t, err, txn.ErrTxDone)
	require.ErrorIs(t, rows.Err(), txn.ErrTxDone)
	assert.Nil(t, rows.RawValues())
	assert.Nil(t, rows.FieldDescriptions())
	assert.Nil(t, rows.Conn())
	assert.Nil(t, rows.TypeMap())
	assert.Empty(t, rows.CommandTag().String())
	require.ErrorIs(t, m.QueryRow(ended, "select 1").Scan(new(int)), txn.ErrTxDone)
}

// seventh is a codec for bigint that decodes every value as 7.
type seventh struct{ pgtype.Int8Codec }

func (seventh) PlanScan(*pgtype.Map, uint32, int16, any) pgtype.ScanPlan { return seventh{} }

func (seventh) Scan(_ []byte, dst any) error {
	*dst.(*int64) = 7
	return nil
}

func TestQueryRow_UsesRegisteredCodec(t *testing.T) {
	t.Parallel()
	m := managerOf(t, fxtest.DB(t, fxtest.Pool(pgfx.WithAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "int8", OID: pgtype.Int8OID, Codec: seventh{}})
		return nil
	}))))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		var n int64
		require.NoError(t, m.QueryRow(ctx, "select 1::bigint").Scan(&n))
		assert.EqualValues(t, 7, n)
		return nil
	}))
}
