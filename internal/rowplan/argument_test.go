package rowplan_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// argue holds what pgx sends for an argument that is a field of a row to what it sends for the field's value, on a map that knows
// nothing of pointers. The type of the parameter may be another than the plan's column was.
func argue[V any](t *testing.T, m *pair, column, parameter uint32, data []byte) (direct bool, sent []byte) {
	t.Helper()
	var row box[V]
	fill(reflect.ValueOf(&row.V).Elem(), data)
	model := rowplan.NewModel(reflect.TypeFor[box[V]](), [][]int{{1}})
	plan := model.Bind(m.own, []pgconn.FieldDescription{{DataTypeOID: column, Format: m.own.FormatCodeForOID(column)}})
	plan.Ask(m.own, pgx.QueryExecModeCacheStatement)
	args := []any{nil, "kept"}
	direct = true
	plan.Arguments(reflect.ValueOf(&row).Elem(), []int{0, -1}, args, func(int) any {
		direct = false
		return row.V
	})
	assert.Equal(t, "kept", args[1])
	var got, want pgx.ExtendedQueryBuilder
	description := &pgconn.StatementDescription{ParamOIDs: []uint32{parameter}}
	gotErr, wantErr := got.Build(m.own, description, args[:1]), want.Build(m.plain, description, []any{row.V})
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("%#v for %d, planned for %d: as a field %v, as a value %v", row.V, parameter, column, gotErr, wantErr)
	}
	if gotErr != nil {
		return direct, nil
	}
	if !slices.Equal(got.ParamFormats, want.ParamFormats) || !reflect.DeepEqual(got.ParamValues, want.ParamValues) {
		t.Fatalf("%#v for %d, planned for %d: as a field %q in format %v, as a value %q in format %v", row.V, parameter, column,
			got.ParamValues, got.ParamFormats, want.ParamValues, want.ParamFormats)
	}
	return direct, got.ParamValues[0]
}

// pair is a map, and the same without what Register has put in front of its wrappers.
type pair struct{ own, plain *pgtype.Map }

func pairOf(makeMap func() *pgtype.Map) *pair {
	p := &pair{makeMap(), makeMap()}
	if len(p.plain.TryWrapEncodePlanFuncs) > len(pgtype.NewMap().TryWrapEncodePlanFuncs) {
		p.plain.TryWrapEncodePlanFuncs = p.plain.TryWrapEncodePlanFuncs[1:]
	}
	return p
}

func TestAFieldIsSentAsItsValueIs(t *testing.T) {
	t.Parallel()
	for round, makeMap := range append(slices.Clone(maps), ownWriters) {
		m := pairOf(makeMap)
		for of, w := range writers {
			for i, oid := range oids {
				for j, data := range dataSamples() {
					if (of+i+j)%(2+round) > 0 {
						continue // the rest is the fuzz test's
					}
					w.argue(t, m, oid, oid, data)
				}
				w.argue(t, m, oid, oids[(i+of)%len(oids)], dataSamples()[4])
			}
		}
	}
}

func TestCommonFieldsAreArgumentsByTheirAddress(t *testing.T) {
	t.Parallel()
	some := []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01")
	for _, one := range []struct {
		w   writer
		oid uint32
	}{
		{writerOf[bool](), pgtype.BoolOID},
		{writerOf[int](), pgtype.Int4OID},
		{writerOf[uint16](), pgtype.Int8OID},
		{writerOf[level](), pgtype.Int2OID},
		{writerOf[float32](), pgtype.Float4OID},
		{writerOf[float64](), pgtype.Float8OID},
		{writerOf[string](), pgtype.TextOID},
		{writerOf[string](), pgtype.UUIDOID},
		{writerOf[name](), pgtype.VarcharOID},
		{writerOf[name](), unregistered},
		{writerOf[[]byte](), pgtype.ByteaOID},
		{writerOf[uuid.UUID](), pgtype.UUIDOID},
		{writerOf[[16]byte](), pgtype.UUIDOID},
		{writerOf[time.Time](), pgtype.TimestamptzOID},
		{writerOf[json.RawMessage](), pgtype.JSONBOID},
		{writerOf[json.RawMessage](), pgtype.JSONOID},
		{writerOf[*string](), pgtype.TextOID},
		{writerOf[*level](), pgtype.Int2OID},
		{writerOf[*time.Time](), pgtype.TimestamptzOID},
	} {
		direct, _ := one.w.argue(t, pairOf(ours), one.oid, one.oid, some)
		assert.True(t, direct, "%v for %d", one.w.typ, one.oid)
	}
	for _, one := range []struct {
		w       writer
		oid     uint32
		makeMap func() *pgtype.Map
	}{
		{writerOf[int64](), pgtype.NumericOID, ours},
		{writerOf[time.Time](), pgtype.TimestampOID, ours},
		{writerOf[string](), pgtype.JSONBOID, ours},
		{writerOf[valuer](), pgtype.TextOID, ours},
		{writerOf[mood](), unregistered, ours},
		{writerOf[json.RawMessage](), pgtype.JSONBOID, peculiar},
		{writerOf[uuid.UUID](), pgtype.UUIDOID, pgtype.NewMap},
		{writerOf[int32](), pgtype.Int4OID, pgtype.NewMap},
	} {
		direct, _ := one.w.argue(t, pairOf(one.makeMap), one.oid, one.oid, some)
		assert.False(t, direct, "%v for %d", one.w.typ, one.oid)
	}
}

func TestNullIsSentForWhatIsNil(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		w   writer
		oid uint32
	}{
		{writerOf[[]byte](), pgtype.ByteaOID},
		{writerOf[json.RawMessage](), pgtype.JSONBOID},
		{writerOf[*string](), pgtype.TextOID},
		{writerOf[*int](), pgtype.Int4OID},
	} {
		for _, parameter := range []uint32{one.oid, pgtype.TextOID} {
			_, sent := one.w.argue(t, pairOf(ours), one.oid, parameter, nil)
			assert.Nil(t, sent, "%v for %d", one.w.typ, parameter)
		}
	}
}

// FuzzArgument holds fields as arguments to their values.
func FuzzArgument(f *testing.F) {
	for i, data := range dataSamples() {
		f.Add(uint8(i), uint8(i), uint8(i), uint8(i), data)
	}
	all := append(slices.Clone(maps), ownWriters)
	f.Fuzz(func(t *testing.T, mapOf, writerOf, column, parameter uint8, data []byte) {
		m := pairOf(all[int(mapOf)%len(all)])
		writers[int(writerOf)%len(writers)].argue(t, m, oids[int(column)%len(oids)], oids[int(parameter)%len(oids)], data)
	})
}

func TestArgumentsFollowWhatAConnectionKnows(t *testing.T) {
	t.Parallel()
	type row struct {
		N    int32
		Text string
	}
	m := rowplan.NewModel(reflect.TypeFor[row](), [][]int{{0}, {1}})
	args := func(plan *rowplan.Plan, of any) []any {
		args := make([]any, 2)
		v := reflect.ValueOf(of).Elem()
		plan.Arguments(v, []int{0, 1}, args, func(column int) any { return v.Field(column).Interface() })
		return args
	}
	const sql = "select 1::integer, 'a'::text"
	conn(t, func(conn *pgx.Conn) {
		one := &row{math.MinInt32, "x"}
		assert.Nil(t, m.Arguments(conn), "nothing has been read yet")
		assert.Equal(t, []any{one.N, one.Text}, args(nil, one))
		plan := planFor(t, conn, m, 0, sql)
		require.Same(t, plan, m.Arguments(conn))
		found := args(plan, one)
		assert.Same(t, &one.N, found[0])
		assert.Same(t, &one.Text, found[1])
		other := &struct{ A, B int }{1, 2}
		assert.Equal(t, []any{1, 2}, args(plan, other), "another struct")

		rows, err := conn.Query(t.Context(), "select $1::integer, $2::text", found...) //nolint:rowserrcheck // one row is enough
		require.NoError(t, err)
		defer rows.Close()
		require.True(t, rows.Next())
		assert.Same(t, plan, plan.Again(rows, 0))
		var read row
		require.True(t, rowplan.Scan(plan, rows.RawValues(), &read))
		assert.Equal(t, *one, read)
		assert.Nil(t, plan.Again(rows, 1), "not so many columns")
		rows.Close()
		assert.NotSame(t, plan, againFor(t, conn, plan, "select 1::bigint, 'a'::text"), "other types")

		planFor(t, conn, m, 0, sql)
		require.NotNil(t, m.Arguments(conn))
		types := conn.TypeMap()
		types.RegisterType(&pgtype.Type{Name: "int4", OID: pgtype.Int4OID, Codec: pgtype.Int4Codec{}})
		assert.Nil(t, m.Arguments(conn), "another codec")
		planFor(t, conn, m, 0, sql)
		types.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{types.TryWrapEncodePlanFuncs[0]}, types.TryWrapEncodePlanFuncs...)
		assert.Nil(t, m.Arguments(conn), "other wrappers")
	})
}

// againFor is planFor for a plan that has made the arguments.
func againFor(t *testing.T, conn *pgx.Conn, plan *rowplan.Plan, sql string) *rowplan.Plan {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql) //nolint:rowserrcheck // only its description is wanted
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	return plan.Again(rows, 0)
}

func TestWithoutTypesOfParametersFieldsAreValues(t *testing.T) {
	t.Parallel()
	type row struct{ N int32 }
	m := rowplan.NewModel(reflect.TypeFor[row](), [][]int{{0}})
	for mode, direct := range map[pgx.QueryExecMode]bool{
		pgx.QueryExecModeCacheStatement: true, pgx.QueryExecModeCacheDescribe: true, pgx.QueryExecModeDescribeExec: true,
		pgx.QueryExecModeExec: false, pgx.QueryExecModeSimpleProtocol: false,
	} {
		types := ours()
		plan := m.Bind(types, []pgconn.FieldDescription{{DataTypeOID: pgtype.Int4OID, Format: pgtype.BinaryFormatCode}})
		plan.Ask(types, mode)
		args, one := []any{nil}, row{7}
		plan.Arguments(reflect.ValueOf(&one).Elem(), []int{0}, args, func(int) any { return one.N })
		if direct {
			assert.Same(t, &one.N, args[0], mode)
		} else {
			assert.Equal(t, int32(7), args[0], mode)
		}
	}
}
