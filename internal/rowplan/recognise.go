package rowplan

import (
	"database/sql"
	"encoding/json"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// This file tells whether what a type map chose for a column is what a decoder does. It knows nothing of pgx's plans by name:
// it has maps of its own, as pgx and as pgcodec make them, puts the plan that they would choose together and compares. A plan
// that pgx builds another way one day isn't recognised any more, and then does the work itself.

// references are the maps to compare with. They are not safe for concurrent use.
type references struct {
	mu   sync.Mutex
	maps []*pgtype.Map
}

var reference = sync.OnceValue(func() *references { //nolint:gochecknoglobals // made once, when it is first needed
	ours := pgtype.NewMap()
	pgcodec.Register(ours)
	return &references{maps: []*pgtype.Map{ours, pgtype.NewMap()}}
})

// recognise returns the decoder that does what the plan does to a field of this type, and whether it takes memory from texts;
// nil when there is none.
func recognise(types *pgtype.Map, typ reflect.Type, oid uint32, format int16, plan pgtype.ScanPlan) (decode decoder, shares bool) {
	r := reference()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.maps {
		c := choose(m, typ, oid, format)
		if c.plan != nil && reflect.DeepEqual(c.plan, plan) {
			return c.decode, c.shares
		}
		if decode := nullable(types, m, typ, oid, format, plan); decode != nil {
			return decode, true
		}
	}
	return nil, false
}

// nullable returns the decoder for one of package sql's types that can be NULL. Their Scan gets what the codec decodes; the
// plan is pgx's for every Scanner and holds the codec, which therefore is compared by itself.
func nullable(types, m *pgtype.Map, typ reflect.Type, oid uint32, format int16, plan pgtype.ScanPlan) decoder {
	n, ok := nullables[typ]
	if !ok {
		return nil
	}
	decode, _ := table(n.value, oid, format)
	_, number := integers[n.value]
	asItIs := number || oid == n.oid || n.oid == pgtype.TextOID && isCharacter(oid)
	if decode == nil || !asItIs {
		return nil
	}
	have, haveOK := types.TypeForOID(oid)
	want, wantOK := m.TypeForOID(oid)
	expected := m.PlanScan(oid, format, reflect.New(typ).Interface())
	if !haveOK || !wantOK || reflect.TypeOf(plan) != reflect.TypeOf(expected) || !reflect.DeepEqual(have.Codec, want.Codec) {
		return nil
	}
	return n.wrap(decode)
}

func isCharacter(oid uint32) bool {
	return oid == pgtype.TextOID || oid == pgtype.VarcharOID || oid == pgtype.BPCharOID || oid == pgtype.NameOID
}

// nullType is a type of package sql: what it holds, and the type of the database that it holds as it is (an integer any).
type nullType struct {
	value reflect.Type
	oid   uint32
	wrap  func(decoder) decoder
}

var nullables = map[reflect.Type]nullType{
	reflect.TypeFor[sql.NullString]():  {reflect.TypeFor[string](), pgtype.TextOID, valid[sql.NullString]},
	reflect.TypeFor[sql.NullBool]():    {reflect.TypeFor[bool](), pgtype.BoolOID, valid[sql.NullBool]},
	reflect.TypeFor[sql.NullInt16]():   {reflect.TypeFor[int16](), 0, valid[sql.NullInt16]},
	reflect.TypeFor[sql.NullInt32]():   {reflect.TypeFor[int32](), 0, valid[sql.NullInt32]},
	reflect.TypeFor[sql.NullInt64]():   {reflect.TypeFor[int64](), 0, valid[sql.NullInt64]},
	reflect.TypeFor[sql.NullFloat64](): {reflect.TypeFor[float64](), pgtype.Float8OID, valid[sql.NullFloat64]},
	reflect.TypeFor[sql.NullTime]():    {reflect.TypeFor[time.Time](), pgtype.TimestamptzOID, valid[sql.NullTime]},
}

// valid lets a decoder write the first field of a struct, and sets the one called Valid.
func valid[N any](decode decoder) decoder {
	f, _ := reflect.TypeFor[N]().FieldByName("Valid")
	offset := f.Offset
	return func(src []byte, place unsafe.Pointer, t *texts) bool {
		if src == nil {
			return true
		}
		if !decode(src, place, t) {
			return false
		}
		*(*bool)(unsafe.Add(place, offset)) = true
		return true
	}
}

// choice is a decoder and the plan whose work it does.
type choice struct {
	decode decoder
	shares bool
	plan   pgtype.ScanPlan
}

// choose finds the decoder for a type. A type of the same kind as one for which there is a decoder is its memory with another
// name; so is a pointer to it. What methods the name brings along, the plan tells.
func choose(m *pgtype.Map, typ reflect.Type, oid uint32, format int16) choice {
	target := reflect.New(typ).Interface()
	if decode, shares := table(typ, oid, format); decode != nil {
		return choice{decode: decode, shares: shares, plan: m.PlanScan(oid, format, target)}
	}
	var wrap func(any) (pgtype.WrappedScanPlanNextSetter, any, bool)
	var c choice
	if typ.Kind() == reflect.Pointer {
		if c = choose(m, typ.Elem(), oid, format); c.plan == nil || typ.Elem().Kind() == reflect.Pointer {
			return choice{}
		}
		if c.decode = pointerTo(typ.Elem(), c.decode); c.decode == nil {
			return choice{}
		}
		wrap = pgtype.TryPointerPointerScanPlan
	} else {
		bare := underlying(typ)
		if bare == nil {
			return choice{}
		}
		if c = choose(m, bare, oid, format); c.plan == nil {
			return choice{}
		}
		wrap = pgtype.TryFindUnderlyingTypeScanPlan
	}
	outer, _, ok := wrap(target)
	if !ok {
		return choice{}
	}
	outer.SetNext(c.plan)
	c.plan = outer
	return c
}

// bare are the types without a name of their own.
var bare = map[reflect.Kind]reflect.Type{
	reflect.Bool: reflect.TypeFor[bool](), reflect.String: reflect.TypeFor[string](),
	reflect.Int: reflect.TypeFor[int](), reflect.Int8: reflect.TypeFor[int8](), reflect.Int16: reflect.TypeFor[int16](),
	reflect.Int32: reflect.TypeFor[int32](), reflect.Int64: reflect.TypeFor[int64](),
	reflect.Uint: reflect.TypeFor[uint](), reflect.Uint8: reflect.TypeFor[uint8](), reflect.Uint16: reflect.TypeFor[uint16](),
	reflect.Uint32: reflect.TypeFor[uint32](), reflect.Uint64: reflect.TypeFor[uint64](),
	reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

// underlying returns the type without a name that a named type is made of, nil for others.
func underlying(typ reflect.Type) reflect.Type {
	found := bare[typ.Kind()]
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem() == reflect.TypeFor[byte]():
		found = reflect.TypeFor[[]byte]()
	case isUUID(typ):
		found = reflect.TypeFor[[uuidSize]byte]()
	}
	if found == typ {
		return nil
	}
	return found
}

// isUUID reports whether the type is an array of a UUID's bytes.
func isUUID(typ reflect.Type) bool {
	return typ.Kind() == reflect.Array && typ.Len() == uuidSize && typ.Elem() == reflect.TypeFor[byte]()
}

// pointerTo returns the decoder for a pointer to the type.
func pointerTo(typ reflect.Type, decode decoder) decoder {
	switch typ.Kind() {
	case reflect.Bool:
		return pointer[bool](decode)
	case reflect.String:
		return pointer[string](decode)
	case reflect.Int, reflect.Uint:
		return pointer[int](decode)
	case reflect.Int8, reflect.Uint8:
		return pointer[int8](decode)
	case reflect.Int16, reflect.Uint16:
		return pointer[int16](decode)
	case reflect.Int32, reflect.Uint32:
		return pointer[int32](decode)
	case reflect.Int64, reflect.Uint64:
		return pointer[int64](decode)
	case reflect.Float32:
		return pointer[float32](decode)
	case reflect.Float64:
		return pointer[float64](decode)
	case reflect.Slice:
		return pointer[[]byte](decode)
	case reflect.Array:
		return pointer[[uuidSize]byte](decode)
	default:
	}
	switch typ {
	case reflect.TypeFor[time.Time]():
		return pointer[time.Time](decode)
	case reflect.TypeFor[pgtype.Text]():
		return pointer[pgtype.Text](decode)
	}
	return nil
}

// table returns the decoder for a type itself, and whether it takes memory from texts.
func table(typ reflect.Type, oid uint32, format int16) (decode decoder, shares bool) {
	if decode := sharing(typ, oid, format); decode != nil {
		return decode, true
	}
	if format != pgtype.BinaryFormatCode {
		return nil, false
	}
	switch oid {
	case pgtype.Int2OID:
		return integers[typ].two, false
	case pgtype.Int4OID:
		return integers[typ].four, false
	case pgtype.Int8OID:
		return integers[typ].eight, false
	case pgtype.UUIDOID:
		if typ == reflect.TypeFor[[uuidSize]byte]() || typ == reflect.TypeFor[uuid.UUID]() || pgcodec.PlainUUID(typ) {
			return fromUUID, false
		}
		return nil, false
	}
	return fixed[pair{oid, typ}], false
}

// sharing returns the decoder for values whose length differs.
func sharing(typ reflect.Type, oid uint32, format int16) decoder {
	text := format == pgtype.TextFormatCode
	switch oid {
	case pgtype.JSONOID, pgtype.JSONBOID:
		if documents[typ] != nil && (text || oid == pgtype.JSONOID) {
			return documents[typ]
		}
	case pgtype.ByteaOID:
		text = !text && typ == reflect.TypeFor[[]byte]()
	case pgtype.UUIDOID:
		if !text && typ == reflect.TypeFor[string]() {
			return fromUUIDToString
		}
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID:
		text = true // in both formats
	}
	if !text {
		return nil
	}
	return characters[typ]
}

var (
	documents = map[reflect.Type]decoder{
		reflect.TypeFor[json.RawMessage](): toRaw, reflect.TypeFor[*json.RawMessage](): toRawPointer,
	}
	characters = map[reflect.Type]decoder{
		reflect.TypeFor[string](): toString, reflect.TypeFor[[]byte](): toBytes, reflect.TypeFor[pgtype.Text](): toText,
	}
)

// pair is a type of the database and one of Go.
type pair struct {
	oid uint32
	typ reflect.Type
}

var fixed = map[pair]decoder{
	{pgtype.BoolOID, reflect.TypeFor[bool]()}:             fromBool,
	{pgtype.Float4OID, reflect.TypeFor[float32]()}:        fromFloat4,
	{pgtype.Float8OID, reflect.TypeFor[float64]()}:        fromFloat8,
	{pgtype.TimestamptzOID, reflect.TypeFor[time.Time]()}: fromTimestamptz,
	{pgtype.TimestampOID, reflect.TypeFor[time.Time]()}:   fromTimestamp,
	{pgtype.DateOID, reflect.TypeFor[time.Time]()}:        fromDate,
}

// widths are the decoders for an integer type by the width on the wire.
type widths struct{ two, four, eight decoder }

func widthsOf[T integer]() widths { return widths{fromInt2[T], fromInt4[T], fromInt8[T]} }

var integers = map[reflect.Type]widths{
	reflect.TypeFor[int](): widthsOf[int](), reflect.TypeFor[int8](): widthsOf[int8](), reflect.TypeFor[int16](): widthsOf[int16](),
	reflect.TypeFor[int32](): widthsOf[int32](), reflect.TypeFor[int64](): widthsOf[int64](),
	reflect.TypeFor[uint](): widthsOf[uint](), reflect.TypeFor[uint8](): widthsOf[uint8](), reflect.TypeFor[uint16](): widthsOf[uint16](),
	reflect.TypeFor[uint32](): widthsOf[uint32](), reflect.TypeFor[uint64](): widthsOf[uint64](),
}
