package rowplan_test

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// Types of fields: those that decoders support, named types of the same kinds, and types that must be left to pgx.

type (
	name    string
	level   int16
	flag    bool
	blob    []byte
	id16    [16]byte
	ratio   float64
	counter uint32
)

// shouts is a sql.Scanner.
type shouts string

func (s *shouts) Scan(value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("expected text, got %T", value)
	}
	*s = shouts(strings.ToUpper(text))
	return nil
}

// halves is a pgtype.Int64Scanner.
type halves int64

func (h *halves) ScanInt64(v pgtype.Int8) error {
	if !v.Valid {
		*h = -1
		return nil
	}
	*h = halves(v.Int64 / 2)
	return nil
}

// byText is a pgtype.TextScanner.
type byText string

func (b *byText) ScanText(v pgtype.Text) error {
	*b = byText("<" + v.String + ">")
	return nil
}

// opaque is a pgtype.SkipUnderlyingTypePlanner.
type opaque string

func (opaque) SkipUnderlyingTypePlan() {}

// color is a fmt.Stringer, which takes no part in a conversion.
type color string

func (m color) String() string { return "the color " + string(m) }

// label is an encoding.TextUnmarshaler, which pgx ignores.
type label string

func (l label) MarshalText() ([]byte, error) { return []byte("text " + string(l)), nil }

func (l *label) UnmarshalText(text []byte) error {
	*l = label("text " + string(text))
	return nil
}

type document struct {
	A int    `json:"a"`
	B string `json:"b"`
}

// box has a field between two others, which must not change.
type box[V any] struct {
	Before [3]byte `db:"-"`
	V      V       `db:"v"`
	After  [9]byte `db:"-"`
}

// kind reads values into fields of one type in all ways.
type kind struct {
	typ reflect.Type
	// read returns whether the plan has a decoder, and whether the value could be read.
	read func(t *testing.T, m *pgtype.Map, d pgconn.FieldDescription, src []byte) (direct, ok bool)
}

func kindOf[V any]() kind {
	model := rowplan.NewModel(reflect.TypeFor[box[V]](), [][]int{{1}})
	return kind{reflect.TypeFor[V](), func(t *testing.T, m *pgtype.Map, d pgconn.FieldDescription, src []byte) (direct, ok bool) {
		t.Helper()
		if src == nil && fmt.Sprintf("%T", m.PlanScan(d.DataTypeOID, d.Format, new(V))) == "*pgtype.scanPlanFail" {
			// pgx tries its types in random order until one accepts NULL, so the outcome varies.
			return false, false
		}
		d.Name = "v"
		descriptions := []pgconn.FieldDescription{d}
		var got, want, byScany box[V]
		plan := model.Bind(m, descriptions)
		sent := append([]byte(nil), src...)
		if src == nil {
			sent = nil
		} else if sent == nil {
			sent = []byte{}
		}
		ok = rowplan.Scan(plan, [][]byte{sent}, &got)
		for i := range sent {
			sent[i] = '#' // the connection reuses the memory
		}
		err := pgx.ScanRow(m, descriptions, [][]byte{src}, &want.V)
		what := fmt.Sprintf("%v from %d in format %d: %q", reflect.TypeFor[V](), d.DataTypeOID, d.Format, src)
		if ok != (err == nil) {
			t.Fatalf("%s: the plan returns %v, pgx %v", what, ok, err)
		}
		if ok && !same(reflect.ValueOf(got), reflect.ValueOf(want)) {
			t.Fatalf("%s: the plan reads %#v, pgx %#v", what, got, want)
		}
		if scanyErr := pgxscan.ScanRow(&byScany, &oneRow{types: m, descriptions: descriptions, values: [][]byte{src}}); (scanyErr == nil) != ok ||
			ok && !same(reflect.ValueOf(got), reflect.ValueOf(byScany)) {
			t.Fatalf("%s: the plan reads %#v, scany %#v and %v", what, got, byScany, scanyErr)
		}
		return plan.Direct() > 0, ok
	}}
}

// oneRow is a result of one row for scany.
type oneRow struct {
	pgx.Rows

	types        *pgtype.Map
	descriptions []pgconn.FieldDescription
	values       [][]byte
}

func (r *oneRow) FieldDescriptions() []pgconn.FieldDescription { return r.descriptions }
func (r *oneRow) Next() bool                                   { return true }
func (r *oneRow) Scan(dest ...any) error {
	return pgx.ScanRow(r.types, r.descriptions, r.values, dest...)
}

// same compares as reflect.DeepEqual does, but floating-point numbers by their bits.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && same(a.Elem(), b.Elem())
	case reflect.Struct:
		if !a.Type().Field(0).IsExported() { // time.Time, big.Int
			return reflect.DeepEqual(a.Interface(), b.Interface())
		}
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
}

var kinds = []kind{
	kindOf[bool](), kindOf[int](), kindOf[int8](), kindOf[int16](), kindOf[int32](), kindOf[int64](), kindOf[uint](), kindOf[uint8](),
	kindOf[uint16](), kindOf[uint32](), kindOf[uint64](), kindOf[float32](), kindOf[float64](), kindOf[string](), kindOf[[]byte](),
	kindOf[[16]byte](), kindOf[uuid.UUID](), kindOf[time.Time](), kindOf[json.RawMessage](), kindOf[pgtype.Text](),
	kindOf[*bool](), kindOf[*int](), kindOf[*int8](), kindOf[*int16](), kindOf[*int32](), kindOf[*int64](), kindOf[*uint](),
	kindOf[*uint8](), kindOf[*uint16](), kindOf[*uint32](), kindOf[*uint64](), kindOf[*float32](), kindOf[*float64](),
	kindOf[*string](), kindOf[*[]byte](), kindOf[*[16]byte](), kindOf[*uuid.UUID](), kindOf[*time.Time](), kindOf[*json.RawMessage](),
	kindOf[*pgtype.Text](), kindOf[**string](), kindOf[**int32](), kindOf[**time.Time](),
	kindOf[name](), kindOf[level](), kindOf[flag](), kindOf[blob](), kindOf[id16](), kindOf[ratio](), kindOf[counter](),
	kindOf[*name](), kindOf[*level](), kindOf[*flag](), kindOf[*blob](), kindOf[*id16](), kindOf[*ratio](), kindOf[*counter](),
	kindOf[shouts](), kindOf[*shouts](), kindOf[halves](), kindOf[*halves](), kindOf[byText](), kindOf[*byText](), kindOf[opaque](),
	kindOf[*opaque](), kindOf[color](), kindOf[*color](), kindOf[label](), kindOf[*label](),
	kindOf[document](), kindOf[*document](), kindOf[map[string]any](), kindOf[any](),
	kindOf[uuid.NullUUID](), kindOf[sql.NullString](), kindOf[sql.NullInt64](), kindOf[sql.NullTime](), kindOf[sql.Null[string]](),
	kindOf[sql.NullBool](), kindOf[sql.NullInt16](), kindOf[sql.NullInt32](), kindOf[sql.NullFloat64](),
	kindOf[*sql.NullString](), kindOf[pgtype.Int8](), kindOf[pgtype.Int4](), kindOf[pgtype.Bool](), kindOf[pgtype.Float8](),
	kindOf[pgtype.UUID](), kindOf[pgtype.Timestamptz](), kindOf[pgtype.Timestamp](), kindOf[pgtype.Date](), kindOf[pgtype.Numeric](),
	kindOf[pgtype.Interval](), kindOf[[]string](), kindOf[[]int32](), kindOf[[]uuid.UUID](), kindOf[[]time.Time](), kindOf[[]any](),
	kindOf[time.Duration](), kindOf[netip.Addr](), kindOf[netip.Prefix](), kindOf[pgtype.Range[pgtype.Int4]](),
}

// unregistered is the OID of a type that is in no map, such as an enum that is not registered.
const unregistered = 99999

var oids = []uint32{
	pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID,
	pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.QCharOID, pgtype.ByteaOID, pgtype.UUIDOID,
	pgtype.TimestamptzOID, pgtype.TimestampOID, pgtype.DateOID, pgtype.TimeOID, pgtype.IntervalOID, pgtype.JSONOID, pgtype.JSONBOID,
	pgtype.TextArrayOID, pgtype.Int4ArrayOID, pgtype.UUIDArrayOID, pgtype.TimestamptzArrayOID, pgtype.InetOID, pgtype.OIDOID,
	pgtype.XMLOID, pgtype.Int4rangeOID, pgtype.RecordOID, unregistered,
}

// maps are the type maps of different applications.
var maps = []func() *pgtype.Map{ours, pgtype.NewMap, foreignCodecs, foreignWrappers}

func ours() *pgtype.Map {
	m := pgtype.NewMap()
	pgcodec.Register(m)
	return m
}

// foreignCodecs returns the map of an application that has registered codecs for common types.
func foreignCodecs() *pgtype.Map {
	m := ours()
	m.RegisterType(&pgtype.Type{Name: "int8", OID: pgtype.Int8OID, Codec: negated{}})
	m.RegisterType(&pgtype.Type{Name: "bpchar", OID: pgtype.BPCharOID, Codec: trimmed{}})
	m.RegisterType(&pgtype.Type{Name: "timestamp", OID: pgtype.TimestampOID, Codec: &pgtype.TimestampCodec{ScanLocation: time.FixedZone("x", 3600)}})
	m.RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
	m.RegisterType(&pgtype.Type{Name: "jsonb", OID: pgtype.JSONBOID, Codec: &pgtype.JSONBCodec{
		Marshal: json.Marshal, Unmarshal: func([]byte, any) error { return nil },
	}})
	m.RegisterType(&pgtype.Type{Name: "color", OID: unregistered, Codec: &pgtype.EnumCodec{}})
	m.RegisterDefaultPgType(new(level), "int2")
	return m
}

// foreignWrappers returns the map of an application that has registered a wrapper function for one type.
func foreignWrappers() *pgtype.Map {
	m := ours()
	m.TryWrapScanPlanFuncs = append([]pgtype.TryWrapScanPlanFunc{func(target any) (pgtype.WrappedScanPlanNextSetter, any, bool) {
		if target, ok := target.(*name); ok {
			return &exclaimed{}, (*string)(target), true
		}
		return nil, nil, false
	}}, m.TryWrapScanPlanFuncs...)
	return m
}

// negated is an application's codec for int8 that changes the sign.
type negated struct{ pgtype.Int8Codec }

func (negated) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*int64); ok && format == pgtype.BinaryFormatCode {
		return scanNegated{}
	}
	return pgtype.Int8Codec{}.PlanScan(m, oid, format, target)
}

type scanNegated struct{}

func (scanNegated) Scan(src []byte, target any) error {
	if len(src) != 8 {
		return fmt.Errorf("%d bytes", len(src))
	}
	*target.(*int64) = -int64(binary.BigEndian.Uint64(src))
	return nil
}

// trimmed is an application's codec for character(n) that trims blanks.
type trimmed struct{ pgtype.TextCodec }

func (trimmed) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*string); ok {
		return scanTrimmed{}
	}
	return pgtype.TextCodec{}.PlanScan(m, oid, format, target)
}

type scanTrimmed struct{}

func (scanTrimmed) Scan(src []byte, target any) error {
	*target.(*string) = strings.TrimRight(string(src), " ")
	return nil
}

// exclaimed is the scan plan of an application's wrapper function.
type exclaimed struct{ next pgtype.ScanPlan }

func (p *exclaimed) SetNext(next pgtype.ScanPlan) { p.next = next }

func (p *exclaimed) Scan(src []byte, target any) error {
	text := (*string)(target.(*name))
	if err := p.next.Scan(src, text); err != nil {
		return err
	}
	*text += "!"
	return nil
}

// samples returns values as servers send them.
func samples() [][]byte {
	m := pgtype.NewMap()
	found := [][]byte{
		nil,
		{},
		{0},
		{1},
		{2},
		[]byte("t"), []byte("null"), []byte(" {\"a\": 1} "), []byte(`{"a": 1, "b": "x"}`), []byte("\x01{\"a\": 2}"),
		[]byte("12"), []byte("-1"), []byte("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), []byte("2024-02-29 12:00:00+00"), []byte("infinity"),
		[]byte("{1,2}"), []byte(`\x00ff`), []byte(strings.Repeat("long", 20)), []byte("192.0.2.1/24"),
	}
	for _, value := range []struct {
		oid   uint32
		value any
	}{
		{pgtype.Int2OID, int16(-1)},
		{pgtype.Int2OID, int16(math.MaxInt16)},
		{pgtype.Int4OID, int32(200)},
		{pgtype.Int4OID, int32(math.MinInt32)},
		{pgtype.Int8OID, int64(math.MaxInt64)},
		{pgtype.Int8OID, int64(math.MinInt64)},
		{pgtype.Int8OID, int64(math.MaxUint32)},
		{pgtype.Int8OID, int64(-1)},
		{pgtype.Int8OID, int64(1)},
		{pgtype.Float4OID, float32(1.5)},
		{pgtype.Float8OID, math.NaN()},
		{pgtype.NumericOID, 12.5},
		{pgtype.UUIDOID, [16]byte{1, 2, 3}},
		{pgtype.TimestamptzOID, time.Date(2024, 2, 29, 12, 0, 0, 1000, time.UTC)},
		{pgtype.TimestamptzOID, time.Date(1823, 1, 1, 0, 0, 0, 999000, time.UTC)},
		{pgtype.TimestamptzOID, pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}},
		{pgtype.TimestamptzOID, pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}},
		{pgtype.DateOID, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)},
		{pgtype.DateOID, pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true}},
		{pgtype.Int4ArrayOID, []int32{1, -1}},
		{pgtype.TextArrayOID, []string{"a", "b"}},
		{pgtype.UUIDArrayOID, [][16]byte{{1}}},
		{pgtype.InetOID, netip.MustParsePrefix("192.0.2.1/24")},
	} {
		src, err := m.Encode(value.oid, pgtype.BinaryFormatCode, value.value, nil)
		if err != nil {
			panic(err)
		}
		found = append(found, src)
	}
	for _, edge := range []int64{-211_813_488_000_000_000, 9_223_371_331_200_000_000} { // of timestamps
		for near := range int64(3) {
			found = append(found, binary.BigEndian.AppendUint64(nil, uint64(edge+near-1)))
		}
	}
	for _, edge := range []int32{-2_451_545, 2_145_031_949} { // of dates
		for near := range int32(3) {
			found = append(found, binary.BigEndian.AppendUint32(nil, uint32(edge+near-1)))
		}
	}
	return found
}

// TestPlan_ReadsWhatPgxAndScanyRead tries every Go type with every column type and format.
func TestPlan_ReadsWhatPgxAndScanyRead(t *testing.T) {
	t.Parallel()
	values := samples()
	for round, makeMap := range maps {
		m := makeMap()
		for of, k := range kinds {
			for _, oid := range oids {
				for format := range int16(2) {
					for i, src := range values {
						if (i+of)%(2+2*round) > 0 {
							continue // the rest is the fuzz test's
						}
						k.read(t, m, pgconn.FieldDescription{DataTypeOID: oid, Format: format}, src)
					}
				}
			}
		}
	}
}

// FuzzPlan compares the plan with pgx's Scan and scany: all must read the same value, or all must fail.
func FuzzPlan(f *testing.F) {
	for i, src := range samples() {
		f.Add(uint8(i), uint8(i), uint8(i), uint8(i%2), src == nil, src)
	}
	f.Fuzz(func(t *testing.T, mapOf, kindOf, oid, format uint8, null bool, src []byte) {
		m := maps[int(mapOf)%len(maps)]()
		if null {
			src = nil
		} else if src == nil {
			src = []byte{}
		}
		k := kinds[int(kindOf)%len(kinds)]
		k.read(t, m, pgconn.FieldDescription{DataTypeOID: oids[int(oid)%len(oids)], Format: int16(format % 2)}, src)
	})
}
