package rowplan_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// person has fields of common types.
type person struct {
	ID     uuid.UUID
	Name   string
	Nick   *string
	Age    int32
	Tags   []byte
	Doc    json.RawMessage
	Born   time.Time
	Died   *time.Time
	Nested struct{ Score *float64 }
	Color  color
}

func personModel() *rowplan.Model {
	return rowplan.NewModel(reflect.TypeFor[person](), [][]int{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8, 0}, {9}})
}

const selectPeople = `select gen_random_uuid(), 'Ada ' || n, case when n % 2 = 0 then 'nick ' || n end, n, ('bytes ' || n)::bytea,
	('{"n": ' || n || '}')::jsonb, timestamptz '2000-01-01 00:00:00Z' + n * interval '1 s', case when n % 3 = 0 then now() end,
	n::float8, ('color ' || n)::varchar from generate_series(1, $1::int) n`

// conn calls fn with a connection of a pool.
func conn(t *testing.T, fn func(conn *pgx.Conn)) {
	t.Helper()
	require.NoError(t, fxtest.DB(t).AcquireFunc(t.Context(), func(_ context.Context, conn *pgx.Conn) error {
		fn(conn)
		return nil
	}))
}

// planFor runs a query and returns the model's plan for it.
func planFor(t *testing.T, conn *pgx.Conn, m *rowplan.Model, others int, sql string, args ...any) *rowplan.Plan {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next(), rows.Err())
	return m.For(rows, others)
}

func TestPlan_DecodesCommonTypesWithoutPgx(t *testing.T) {
	t.Parallel()
	conn(t, func(conn *pgx.Conn) {
		plan := planFor(t, conn, personModel(), 0, selectPeople, 1)
		require.NotNil(t, plan)
		assert.Equal(t, 10, plan.Direct())
	})
	for _, one := range []struct {
		kind   kind
		oid    uint32
		format int16
		src    []byte
	}{
		{kindOf[bool](), pgtype.BoolOID, 1, []byte{1}},
		{kindOf[int8](), pgtype.Int2OID, 1, []byte{0, 1}},
		{kindOf[*uint64](), pgtype.Int8OID, 1, make([]byte, 8)},
		{kindOf[level](), pgtype.Int4OID, 1, make([]byte, 4)},
		{kindOf[*counter](), pgtype.Int4OID, 1, make([]byte, 4)},
		{kindOf[float32](), pgtype.Float4OID, 1, make([]byte, 4)},
		{kindOf[*ratio](), pgtype.Float8OID, 1, make([]byte, 8)},
		{kindOf[name](), pgtype.BPCharOID, 0, []byte("x")},
		{kindOf[string](), pgtype.TextOID, 1, []byte("x")},
		{kindOf[*color](), unregistered, 0, []byte("x")},
		{kindOf[pgtype.Text](), pgtype.VarcharOID, 0, []byte("x")},
		{kindOf[blob](), pgtype.ByteaOID, 1, []byte("x")},
		{kindOf[sql.NullString](), pgtype.VarcharOID, 0, []byte("x")},
		{kindOf[sql.NullInt32](), pgtype.Int4OID, 1, make([]byte, 4)},
		{kindOf[sql.NullTime](), pgtype.TimestamptzOID, 1, make([]byte, 8)},
		{kindOf[id16](), pgtype.UUIDOID, 1, make([]byte, 16)},
		{kindOf[string](), pgtype.UUIDOID, 1, make([]byte, 16)},
		{kindOf[*uuid.UUID](), pgtype.UUIDOID, 1, make([]byte, 16)},
		{kindOf[time.Time](), pgtype.TimestampOID, 1, make([]byte, 8)},
		{kindOf[*time.Time](), pgtype.DateOID, 1, make([]byte, 4)},
		{kindOf[*json.RawMessage](), pgtype.JSONOID, 0, []byte("{}")},
	} {
		direct, ok := one.kind.read(t, ours(), pgconn.FieldDescription{DataTypeOID: one.oid, Format: one.format}, one.src)
		assert.True(t, direct && ok, "%v from %d", one.kind.typ, one.oid)
	}
}

func TestPlan_LeavesForeignConversionsToPgx(t *testing.T) {
	t.Parallel()
	pair := func(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }
	copied := func() *pgtype.Map {
		m := ours()
		m.RegisterType(&pgtype.Type{Name: "int8", OID: pgtype.Int8OID, Codec: pgtype.Int8Codec{}})
		return m
	}
	for _, one := range []struct {
		name string
		kind kind
		m    func() *pgtype.Map
		oid  uint32
		src  []byte
	}{
		{"Scanner", kindOf[shouts](), ours, pgtype.TextOID, []byte("x")},
		{"Int64Scanner", kindOf[halves](), ours, pgtype.Int8OID, pair(4)},
		{"TextScanner", kindOf[byText](), ours, pgtype.TextOID, []byte("x")},
		{"TextUnmarshaler", kindOf[label](), ours, pgtype.TextOID, []byte("x")},
		{"pointer to a TextUnmarshaler", kindOf[*label](), ours, pgtype.TextOID, []byte("x")},
		{"SkipUnderlyingTypePlanner", kindOf[opaque](), ours, pgtype.TextOID, []byte("x")},
		{"foreign int8 codec", kindOf[int64](), foreignCodecs, pgtype.Int8OID, pair(4)},
		{"copy of pgx's type", kindOf[int64](), copied, pgtype.Int8OID, pair(4)},
		{"foreign bpchar codec", kindOf[string](), foreignCodecs, pgtype.BPCharOID, []byte("x ")},
		{"timestamp codec with a location", kindOf[time.Time](), foreignCodecs, pgtype.TimestampOID, pair(4)},
		{"JSON codec with another unmarshal function", kindOf[json.RawMessage](), foreignCodecs, pgtype.JSONBOID, []byte("{}")},
		{"foreign wrapper", kindOf[name](), foreignWrappers, pgtype.TextOID, []byte("x")},
		{"foreign wrapper for another type", kindOf[int64](), foreignWrappers, pgtype.Int8OID, pair(4)},
		{"pgx's JSON codec", kindOf[json.RawMessage](), pgtype.NewMap, pgtype.JSONOID, []byte("{}")},
	} {
		direct, _ := one.kind.read(t, one.m(), pgconn.FieldDescription{DataTypeOID: one.oid, Format: 1}, one.src)
		assert.False(t, direct, one.name)
	}
	direct, _ := kindOf[int32]().read(t, foreignCodecs(), pgconn.FieldDescription{DataTypeOID: pgtype.Int4OID, Format: 1}, []byte{0, 0, 0, 1})
	assert.True(t, direct, "a codec for another column type has no effect")
	m := ours()
	m.RegisterDefaultPgType(new(name), "text")
	direct, _ = kindOf[name]().read(t, m, pgconn.FieldDescription{DataTypeOID: unregistered}, []byte("x"))
	assert.False(t, direct, "a column type for the Go type")
}

func TestModel_CachesPlanWhileItFits(t *testing.T) {
	t.Parallel()
	type thing struct {
		Text   string
		Number int64
		Color  string
	}
	m := rowplan.NewModel(reflect.TypeFor[thing](), [][]int{{0}, {1}, {2}})
	conn(t, func(conn *pgx.Conn) {
		_, err := conn.Exec(t.Context(), "create type color as enum ('happy')")
		require.NoError(t, err)
		const sql = "select 'a'::text, 1::bigint, 'happy'::color, true"
		first := planFor(t, conn, m, 1, sql)
		require.NotNil(t, first)
		same := func() bool {
			next := planFor(t, conn, m, 1, sql)
			was := first
			first = next
			return was == next
		}
		assert.True(t, same())
		assert.NotSame(t, first, planFor(t, conn, m, 1, "select 'a'::text, 1::integer, 'happy'::color, true"), "another type")
		assert.False(t, same())
		assert.True(t, same())
		assert.NotSame(t, first, planFor(t, conn, m, 1, sql, pgx.QueryExecModeSimpleProtocol), "another format")
		assert.False(t, same())

		types := conn.TypeMap()
		types.RegisterType(&pgtype.Type{Name: "int8", OID: pgtype.Int8OID, Codec: negated{}})
		assert.False(t, same(), "another codec")
		assert.True(t, same())
		types.TryWrapScanPlanFuncs = append([]pgtype.TryWrapScanPlanFunc{types.TryWrapScanPlanFuncs[0]}, types.TryWrapScanPlanFuncs...)
		assert.False(t, same(), "other wrappers")
		types.RegisterDefaultPgType(new(string), "varchar")
		assert.False(t, same(), "another type for values of unknown types")
		assert.True(t, same())
	})
}

func TestModel_LimitsPlansOfConnection(t *testing.T) {
	t.Parallel()
	conn(t, func(conn *pgx.Conn) {
		models := make([]*rowplan.Model, rowplan.MaxPlans+1)
		plans := make([]*rowplan.Plan, len(models))
		rows, err := conn.Query(t.Context(), "select 1") //nolint:rowserrcheck // only the description is used
		require.NoError(t, err)
		defer rows.Close()
		require.True(t, rows.Next())
		for i := range models {
			models[i] = rowplan.NewModel(reflect.TypeFor[struct{ N int }](), [][]int{{0}})
			plans[i] = models[i].For(rows, 0)
		}
		assert.NotSame(t, plans[0], models[0].For(rows, 0), "all plans were discarded")
		assert.Same(t, plans[rowplan.MaxPlans], models[rowplan.MaxPlans].For(rows, 0))
	})
}

func TestModel_HasNoPlanForOtherResults(t *testing.T) {
	t.Parallel()
	type inner struct{ N int }
	type outer struct {
		Inner *inner
		N     int
	}
	assert.Nil(t, rowplan.NewModel(reflect.TypeFor[outer](), [][]int{{0, 0}}), "behind a pointer")
	m := rowplan.NewModel(reflect.TypeFor[outer](), [][]int{{1}})
	conn(t, func(conn *pgx.Conn) {
		assert.Nil(t, planFor(t, conn, m, 0, "select 1, 2"), "two columns")
		plan := planFor(t, conn, m, 0, "select 1")
		assert.False(t, rowplan.Scan(plan, [][]byte{{0, 0, 0, 1}}, new(inner)), "another struct")
		assert.False(t, rowplan.Scan(plan, nil, new(outer)), "no values")
	})
	rows := pgx.RowsFromResultReader(pgtype.NewMap(), &pgconn.ResultReader{}) //nolint:rowserrcheck // there are none
	assert.Nil(t, m.For(rows, -1), "no connection")
}

func TestArena_SharesMemoryOfShortValues(t *testing.T) { //nolint:paralleltest // it counts allocations
	type row struct {
		A string
		B []byte
		C string
		D []byte
	}
	m := rowplan.NewModel(reflect.TypeFor[row](), [][]int{{0}, {1}, {2}, {3}})
	text := pgconn.FieldDescription{DataTypeOID: pgtype.TextOID}
	plan := m.Bind(ours(), []pgconn.FieldDescription{text, text, text, text})
	values := [][]byte{[]byte("short"), []byte("bytes"), []byte(strings.Repeat("l", rowplan.MaxShared+1)), []byte("others")}
	read := func() (got row) {
		require.True(t, rowplan.Scan(plan, values, &got))
		return got
	}
	first := read()
	assert.Equal(t, row{"short", []byte("bytes"), string(values[2]), []byte("others")}, first)
	first.B = append(first.B, "XX"...)
	assert.Equal(t, "others", string(first.D), "an append doesn't change the next value")
	assert.Equal(t, "short", first.A)
	assert.Equal(t, row{"short", []byte("bytes"), string(values[2]), []byte("others")}, read())
	const rows = 1000
	allocations := testing.AllocsPerRun(10, func() {
		plan = m.Bind(ours(), []pgconn.FieldDescription{text, text, text, text})
		for range rows {
			read()
		}
	})
	bytes := len("short") + len("bytes") + len("others")
	assert.Less(t, allocations, float64(2*rows+2*rows*bytes/rowplan.MaxBlock+200), "a row, its long text, and the blocks")
}

// TestPlan_RowsSurviveGarbageCollection reads many rows while the garbage collector runs, and compares them afterwards.
func TestPlan_RowsSurviveGarbageCollection(t *testing.T) { //nolint:paralleltest // it changes the collector for all
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	m := personModel()
	conn(t, func(conn *pgx.Conn) {
		for range 5 {
			const n = 500
			rows, err := conn.Query(t.Context(), selectPeople, n)
			require.NoError(t, err)
			found := make([]person, n)
			var plan *rowplan.Plan
			for i := 0; rows.Next(); i++ {
				if plan == nil {
					plan = m.For(rows, 0)
				}
				require.True(t, rowplan.Scan(plan, rows.RawValues(), &found[i]))
				if i%50 == 0 {
					runtime.GC()
				}
			}
			require.NoError(t, rows.Err())
			runtime.GC()
			for i, p := range found {
				number := strconv.Itoa(i + 1)
				require.Equal(t, "Ada "+number, p.Name)
				require.Equal(t, (i+1)%2 == 0, p.Nick != nil && *p.Nick == "nick "+number)
				require.Equal(t, "bytes "+number, string(p.Tags))
				require.JSONEq(t, `{"n": `+number+`}`, string(p.Doc))
				require.InEpsilon(t, float64(i+1), *p.Nested.Score, 0)
				require.Equal(t, color("color "+number), p.Color)
			}
		}
	})
}

func TestValue_ReadsOnlyExpectedTypes(t *testing.T) {
	t.Parallel()
	conn(t, func(conn *pgx.Conn) {
		read := func(sql string, args ...any) (n int64, yes, number, flag, other bool) {
			rows, err := conn.Query(t.Context(), sql, args...)
			require.NoError(t, err)
			defer rows.Close()
			require.True(t, rows.Next(), rows.Err())
			number, flag, other = rowplan.Value(rows, &n), rowplan.Value(rows, &yes), rowplan.Value(rows, new(string))
			rows.Close()
			require.NoError(t, rows.Err())
			return n, yes, number, flag, other
		}
		n, _, number, flag, other := read("select -5::bigint")
		assert.Equal(t, []any{int64(-5), true, false, false}, []any{n, number, flag, other})
		_, _, number, flag, other = read("select 1::bigint", pgx.QueryExecModeSimpleProtocol)
		assert.False(t, number || flag || other, "in text")
		_, yes, number, flag, other := read("select true")
		assert.Equal(t, []any{true, false, true, false}, []any{yes, number, flag, other})
		for _, sql := range []string{"select 1::integer", "select 1::bigint, 2", "select null::bool"} {
			_, _, number, flag, other := read(sql)
			assert.False(t, number || flag || other, sql)
		}
	})
}
