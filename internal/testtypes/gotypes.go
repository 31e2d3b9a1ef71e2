package testtypes

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// GoTypes returns the types of fields.
func GoTypes() []GoType {
	var all []GoType
	for _, group := range [][]GoType{integers(), words(), numbers(), times(), identities(), lists(), documents(), shapes()} {
		all = append(all, group...)
	}
	return all
}

// cast returns a random integer of any size.
func cast[V int | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | Level](r *rand.Rand) V {
	return V(r.Int64() >> r.IntN(64))
}

func integers() []GoType {
	return []GoType{
		of("bigint", cast[int], 0, -1, math.MaxInt64, math.MinInt64),
		of("smallint", cast[int8], math.MinInt8, math.MaxInt8),
		of("smallint", cast[int16], math.MinInt16, math.MaxInt16),
		of("integer", cast[int32], math.MinInt32, math.MaxInt32),
		of("bigint", cast[int64], 0, 7, math.MinInt64, math.MaxInt64),
		of("smallint", cast[uint8], 0, math.MaxUint8),
		of("integer", cast[uint16], 0, math.MaxUint16),
		of("bigint", cast[uint32], 1, math.MaxUint32),
		of("bigint", cast[uint64], 1, math.MaxUint64),
		of("smallint", cast[Level], 3, math.MaxInt16),
		of("bigint", func(r *rand.Rand) *int64 { return new(cast[int64](r)) }, nil, new(int64(5))),
		of("integer", nil, sql.NullInt32{}, sql.NullInt32{Int32: math.MaxInt32, Valid: true}),
		of("bigint", nil, sql.NullInt64{}, sql.NullInt64{Int64: -9, Valid: true}),
		of("bigint", nil, sql.Null[int64]{}, sql.Null[int64]{V: 9, Valid: true}),
		of("smallint", nil, pgtype.Int2{}, pgtype.Int2{Int16: -9, Valid: true}),
		of("integer", nil, pgtype.Int4{}, pgtype.Int4{Int32: math.MinInt32, Valid: true}),
		of("bigint", nil, pgtype.Int8{}, pgtype.Int8{Int64: math.MaxInt64, Valid: true}),
		of("oid", nil, pgtype.Uint32{}, pgtype.Uint32{Uint32: math.MaxUint32, Valid: true}),
		of("xid8", nil, pgtype.Uint64{}, pgtype.Uint64{Uint64: math.MaxUint64, Valid: true}),
	}
}

func words() []GoType {
	text := func(r *rand.Rand) string {
		//nolint:gosmopolitan // text of several bytes a character
		return []string{"", "word", "1", "-7.5", "true", "{1,2}", "漢字 🎈", "\t\\N\n", strings.Repeat("long ", 60)}[r.IntN(9)]
	}
	return []GoType{
		with(textual("text", func(s string) []string { return []string{s} }, "", "no value of it", "zero\x00byte"), text),
		with(textual("text", func(s string) []*string { return []*string{&s} }, nil), func(r *rand.Rand) *string { return new(text(r)) }),
		with(textual("text", func(s string) []Word { return []Word{Word(s)} }, ""), func(r *rand.Rand) Word { return Word(text(r)) }),
		textual("text", func(s string) []sql.NullString { return []sql.NullString{{String: s, Valid: true}} }, sql.NullString{}),
		textual("text", func(s string) []pgtype.Text { return []pgtype.Text{{String: s, Valid: true}} }, pgtype.Text{}),
		textual("text", func(s string) []Blank { return []Blank{Blank(s)} }, ""),
		textual("text", func(s string) []Ticket { return []Ticket{Ticket(s)} }, ""),
		textual("bytea", func(s string) [][]byte { return [][]byte{[]byte(s)} }, nil, []byte{}, []byte{0, 255, '\\'}).restricted("text", "json", "jsonb", "d_text", "d_jsonb"),
		textual("jsonb", func(s string) []json.RawMessage { return []json.RawMessage{json.RawMessage(s)} }, nil, json.RawMessage(`{"a": [1, null]}`)).
			restricted("json", "d_jsonb", "text"),
		of("boolean", nil, true, false),
		of("boolean", nil, nil, new(true)),
		of("boolean", nil, sql.NullBool{}, sql.NullBool{Bool: true, Valid: true}),
		of("boolean", nil, pgtype.Bool{}, pgtype.Bool{Bool: true, Valid: true}),
	}
}

// with adds a generator.
func with[V any](g GoType, random func(r *rand.Rand) V) GoType {
	fixed := g.values
	g.random = func(r *rand.Rand, c Column) any {
		if list := fixed(c); r.IntN(2) == 0 {
			return list[r.IntN(len(list))]
		}
		return random(r)
	}
	return g
}

func numbers() []GoType {
	numeric := func(digits int64, exp int32) pgtype.Numeric {
		return pgtype.Numeric{Int: big.NewInt(digits), Exp: exp, Valid: true}
	}
	return []GoType{
		of("real", func(r *rand.Rand) float32 { return float32(r.NormFloat64()) },
			0, 0.1, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1))),
		of("double precision", func(r *rand.Rand) float64 { return r.NormFloat64() * math.Pow(10, float64(r.IntN(40)-20)) },
			0, -1.5, 0.1, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Copysign(0, -1)),
		of("double precision", nil, nil, new(2.5)),
		of("double precision", nil, sql.NullFloat64{}, sql.NullFloat64{Float64: 0.1, Valid: true}),
		of("real", nil, pgtype.Float4{}, pgtype.Float4{Float32: 0.1, Valid: true}),
		of("double precision", nil, pgtype.Float8{}, pgtype.Float8{Float64: math.Inf(1), Valid: true}),
		of("numeric", func(r *rand.Rand) pgtype.Numeric { return numeric(r.Int64(), r.Int32N(40)-30) },
			pgtype.Numeric{}, numeric(0, 0), numeric(100, 0), numeric(123456789012345678, -17), numeric(5, 3),
			pgtype.Numeric{NaN: true, Valid: true},
			pgtype.Numeric{InfinityModifier: pgtype.Infinity, Valid: true}),
		of("numeric", nil, Amount{}, Amount{12345}),
		of("bit(3)", nil, pgtype.Bits{}, pgtype.Bits{Bytes: []byte{0b1010_0000}, Len: 3, Valid: true}).restricted("varbit"),
	}
}

func times() []GoType {
	at := time.Date(2024, 3, 1, 0, 30, 0, 123_456_789, time.FixedZone("east", 2*3600))
	list := []time.Time{
		{},
		at,
		time.Date(1, 1, 1, 0, 0, 0, 1000, time.FixedZone("x", 5*3600)),
		time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	}
	random := func(r *rand.Rand) time.Time {
		return time.Unix(r.Int64N(1<<35)-1<<34, r.Int64N(1e9)).In(time.FixedZone("x", r.IntN(24*60)*60-12*3600))
	}
	return []GoType{
		of("timestamptz", random, list...),
		of("timestamptz", nil, nil, &at),
		of("timestamptz", nil, sql.NullTime{}, sql.NullTime{Time: at, Valid: true}),
		of("timestamptz", nil, pgtype.Timestamptz{}, pgtype.Timestamptz{Time: at, Valid: true},
			pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}),
		of("timestamp", nil, pgtype.Timestamp{}, pgtype.Timestamp{Time: at, Valid: true},
			pgtype.Timestamp{InfinityModifier: pgtype.NegativeInfinity, Valid: true}),
		of("date", nil, pgtype.Date{}, pgtype.Date{Time: at, Valid: true}, pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true}),
		of("time", nil, pgtype.Time{}, pgtype.Time{Microseconds: 86_400_000_000, Valid: true}),
		of("interval", func(r *rand.Rand) time.Duration { return time.Duration(r.Int64() >> r.IntN(40)) },
			0, -time.Hour, time.Nanosecond, 1500*time.Millisecond, math.MaxInt64),
		of("interval", nil, nil, new(time.Minute)),
		of("interval", nil, pgtype.Interval{}, pgtype.Interval{Microseconds: -1, Days: 2, Months: -3, Valid: true}),
	}
}

func identities() []GoType {
	id := uuid.MustParse("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	_, network, _ := net.ParseCIDR("10.0.0.0/8")
	address := netip.MustParseAddr("10.0.0.1")
	random := func(r *rand.Rand) (id uuid.UUID) {
		binary.NativeEndian.PutUint64(id[:], r.Uint64())
		return id
	}
	return []GoType{
		of("uuid", random, uuid.UUID{}, id),
		of("uuid", nil, nil, &id),
		of("uuid", nil, uuid.NullUUID{}, uuid.NullUUID{UUID: id, Valid: true}),
		of("uuid", nil, pgtype.UUID{}, pgtype.UUID{Bytes: id, Valid: true}),
		of("uuid", nil, [16]byte{}, [16]byte(id)),
		of("inet", nil, netip.Addr{}, address, netip.MustParseAddr("fe80::1")),
		of("inet", nil, nil, &address),
		of("cidr", nil, netip.Prefix{}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.1/24")),
		of("cidr", nil, nil, network),
		of("inet", nil, nil, net.IPv4(10, 0, 0, 1)).restricted("cidr"),
		of("macaddr", nil, nil, net.HardwareAddr{8, 0, 43, 1, 2, 3}).restricted("macaddr8"),
		of("tid", nil, pgtype.TID{}, pgtype.TID{BlockNumber: 1, OffsetNumber: 2, Valid: true}),
	}
}

func lists() []GoType {
	at, word := time.Date(2024, 3, 1, 0, 30, 0, 0, time.FixedZone("east", 2*3600)), "a"
	id := uuid.MustParse("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	return []GoType{
		of("text[]", nil, nil, []string{}, []string{"a", "", "NULL", `a,b"{}\`}, []string{"1", "2"}, []string{"2024-02-29", id.String()}).
			restricted("varchar(3)[]", "status[]", "citext[]", "d_texts", "uuid[]", "date[]", "money[]"),
		of("text[]", nil, nil, []Word{"sad", "happy"}, []Word{"1.5"}).restricted("varchar(3)[]", "status[]", "citext[]", "d_texts"),
		of("text[]", nil, nil, []*string{&word, nil}).restricted("varchar(3)[]", "citext[]", "d_texts"),
		of("bytea[]", nil, nil, [][]byte{{0, 255}, nil}).restricted(),
		of("integer[]", nil, nil, []int32{}, []int32{1, math.MinInt32}).restricted("smallint[]", "bigint[]", "numeric[]", "d_int[]"),
		of("bigint[]", nil, nil, []int64{1, math.MaxInt64}, []int64{0}).restricted("smallint[]", "integer[]", "numeric[]", "d_int[]"),
		of("bigint[]", nil, nil, [][]int64{{1, 2}, {3, 4}}).restricted("integer[]", "d_int[]"),
		of("integer[]", nil, [3]int32{}, [3]int32{1, 2, 3}).restricted("bigint[]", "d_int[]"),
		of("double precision[]", nil, nil, []float64{0.1, math.MaxFloat32}, []float64{math.MaxFloat64, math.Inf(1)}).restricted("real[]", "numeric[]"),
		of("boolean[]", nil, nil, []bool{true, false}).restricted(),
		of("timestamptz[]", nil, nil, []time.Time{at}).restricted("date[]", "d_date[]"),
		of("interval[]", nil, nil, []time.Duration{time.Hour}).restricted(),
		of("uuid[]", nil, nil, []uuid.UUID{id, {}}).restricted("text[]"),
		of("inet[]", nil, nil, []netip.Addr{netip.MustParseAddr("10.0.0.1")}).restricted(),
		of("text[]", nil, pgtype.Array[string]{}, pgtype.Array[string]{
			Elements: []string{"a", "b"}, Dims: []pgtype.ArrayDimension{{Length: 2, LowerBound: 0}}, Valid: true,
		}).restricted("varchar(3)[]", "status[]", "d_texts", "citext[]", "integer[]", "uuid[]"),
		of("integer[]", nil, nil, pgtype.FlatArray[pgtype.Int4]{{Int32: 1, Valid: true}, {}}).restricted("d_int[]"),
	}
}

func documents() []GoType {
	large := map[string]any{"uid": json.Number("1499366092322157987"), "ü": []any{json.Number("1.50"), nil, "x"}}
	return []GoType{
		asJSON(nil, map[string]any{}, large),
		asJSON(Document{}, Document{Name: "ü", Tags: []string{"<a>"}}),
		asJSON(nil, []Document{}, []Document{{Name: "a"}}),
		asJSON(nil, &Document{Name: "a"}),
		of("jsonb", nil, nil, map[string]any{}, large),
		of("jsonb", nil, nil, map[string]string{"a": "1"}),
		of("varchar(5)", nil, nil, pgtype.Hstore{"a": new("1")}, pgtype.Hstore{"b": nil}).restricted("hstore"),
	}
}

func shapes() []GoType {
	four := func(n int32) pgtype.Int4 { return pgtype.Int4{Int32: n, Valid: true} }
	numbers := pgtype.Range[pgtype.Int4]{Lower: four(1), Upper: four(5), LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
	at := pgtype.Timestamptz{Time: time.Date(2024, 3, 1, 0, 30, 0, 0, time.FixedZone("east", 2*3600)), Valid: true}
	day := pgtype.Date{Time: time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC), Valid: true}
	vec := func(x, y float64) pgtype.Vec2 { return pgtype.Vec2{X: x, Y: y} }
	return []GoType{
		of("int4range", nil, pgtype.Range[pgtype.Int4]{}, numbers,
			pgtype.Range[pgtype.Int4]{LowerType: pgtype.Empty, UpperType: pgtype.Empty, Valid: true},
			pgtype.Range[pgtype.Int4]{LowerType: pgtype.Unbounded, UpperType: pgtype.Unbounded, Valid: true}).
			restricted("int8range"),
		of("tstzrange", nil, pgtype.Range[pgtype.Timestamptz]{},
			pgtype.Range[pgtype.Timestamptz]{Lower: at, LowerType: pgtype.Inclusive, UpperType: pgtype.Unbounded, Valid: true}).
			restricted("tsrange"),
		of("daterange", nil, pgtype.Range[pgtype.Date]{},
			pgtype.Range[pgtype.Date]{Lower: day, LowerType: pgtype.Exclusive, UpperType: pgtype.Unbounded, Valid: true}).restricted(),
		of("int4multirange", nil, nil, pgtype.Multirange[pgtype.Range[pgtype.Int4]]{},
			pgtype.Multirange[pgtype.Range[pgtype.Int4]]{numbers}).restricted(),
		of("point", nil, pgtype.Point{}, pgtype.Point{P: vec(0.1, -2), Valid: true}).restricted("text"),
		of("line", nil, pgtype.Line{}, pgtype.Line{A: 1, B: 2, C: 3, Valid: true}).restricted("text"),
		of("lseg", nil, pgtype.Lseg{}, pgtype.Lseg{P: [2]pgtype.Vec2{vec(1, 2), vec(3, 4)}, Valid: true}).restricted("text"),
		of("box", nil, pgtype.Box{}, pgtype.Box{P: [2]pgtype.Vec2{vec(3, 4), vec(1, 2)}, Valid: true}).restricted("text"),
		of("path", nil, pgtype.Path{}, pgtype.Path{P: []pgtype.Vec2{vec(1, 2), vec(3, 4)}, Closed: true, Valid: true}).restricted("text"),
		of("polygon", nil, pgtype.Polygon{}, pgtype.Polygon{P: []pgtype.Vec2{vec(1, 2), vec(3, 4), vec(5, 6)}, Valid: true}).restricted("text"),
		of("circle", nil, pgtype.Circle{}, pgtype.Circle{P: vec(1, 2), R: 3, Valid: true}).restricted("text"),
	}
}
