package rowplan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// Encoder writes rows in the binary format of COPY. It decides as a Plan does: pgx's type map is asked how a column is to be
// encoded, and only where the answer is what pgx or package pgcodec has for a common pair of types, a function of ours does
// it. Everything else is boxed and goes through pgx. An Encoder belongs to one COPY.
type Encoder struct {
	columns []encodeColumn
	types   *pgtype.Map
}

// Column is a column of a COPY and the field whose value it gets.
type Column struct {
	// Path leads to the field, as reflect.Value.FieldByIndex takes it; Boxed says that the value can only be had as an argument.
	Path  []int
	Boxed bool
	// OID is the column's type.
	OID uint32
}

type encodeColumn struct {
	encode encoder // nil: pgx does it
	offset uintptr
	oid    uint32
}

// encoder appends the length and the value of a field whose place it gets, -1 for NULL. It returns false, and what it was
// given, for what it leaves to pgx.
type encoder func(buf []byte, place unsafe.Pointer) ([]byte, bool)

// NewEncoder makes an encoder for rows of a struct type.
func NewEncoder(types *pgtype.Map, typ reflect.Type, columns []Column) *Encoder {
	e := &Encoder{types: types, columns: make([]encodeColumn, len(columns))}
	for i, column := range columns {
		c := encodeColumn{oid: column.OID}
		if m := NewModel(typ, [][]int{column.Path}); m != nil && !column.Boxed {
			c.offset = m.fields[0].offset
			c.encode = recogniseEncode(types, m.fields[0].typ, column.OID)
		}
		e.columns[i] = c
	}
	return e
}

// Direct returns how many of the columns are written without pgx.
func (e *Encoder) Direct() int {
	n := 0
	for i := range e.columns {
		if e.columns[i].encode != nil {
			n++
		}
	}
	return n
}

// Append appends a row, a struct of the encoder's type at this address. boxed returns the value of a column as an argument;
// it is asked for what pgx has to encode. An error comes with the position of the column whose value can't be sent.
func (e *Encoder) Append(buf []byte, row unsafe.Pointer, boxed func(column int) any) ([]byte, int, error) {
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(e.columns))) //nolint:gosec // a table has at most 1600 columns
	for i := range e.columns {
		c := &e.columns[i]
		if c.encode != nil {
			if longer, ok := c.encode(buf, unsafe.Add(row, c.offset)); ok {
				buf = longer
				continue
			}
		}
		longer, err := appendValue(e.types, buf, c.oid, boxed(i))
		if err != nil {
			return buf, i, err
		}
		buf = longer
	}
	return buf, -1, nil
}

const null = math.MaxUint32 // the length of NULL, -1

// appendValue does what pgx does with a value that is copied: what can't be encoded in binary, such as a text for a number, is
// read as the column's type first.
func appendValue(m *pgtype.Map, buf []byte, oid uint32, value any) ([]byte, error) {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, null)
	longer, err := m.Encode(oid, pgtype.BinaryFormatCode, value, buf)
	if err != nil {
		var again error
		if longer, again = throughText(m, buf, oid, value); again != nil {
			return nil, err //nolint:wrapcheck // the caller wraps it with the column
		}
	}
	if longer == nil {
		return buf, nil
	}
	return setLength(longer, start)
}

var errTooLong = errors.New("the value is longer than PostgreSQL takes")

func setLength(buf []byte, start int) ([]byte, error) {
	n := len(buf) - start - 4
	if n > math.MaxInt32 {
		return nil, errTooLong
	}
	binary.BigEndian.PutUint32(buf[start:], uint32(n)) //nolint:gosec // it fits
	return buf, nil
}

func throughText(m *pgtype.Map, buf []byte, oid uint32, value any) ([]byte, error) {
	text, ok := value.(string)
	if !ok {
		encoded, err := m.Encode(oid, pgtype.TextFormatCode, value, nil)
		if err != nil {
			return nil, fmt.Errorf("no text either: %w", err)
		}
		text = string(encoded)
	}
	if typ, ok := m.TypeForOID(oid); ok {
		if _, ok := typ.Codec.(*pgtype.ArrayCodec); ok {
			var array pgtype.Array[any] // keeps the dimensions
			if m.Scan(oid, pgtype.TextFormatCode, []byte(text), &array) == nil {
				return m.Encode(oid, pgtype.BinaryFormatCode, array, buf) //nolint:wrapcheck // the caller has a better error
			}
		}
	}
	var parsed any
	if err := m.Scan(oid, pgtype.TextFormatCode, []byte(text), &parsed); err != nil {
		return nil, err //nolint:wrapcheck // as above
	}
	return m.Encode(oid, pgtype.BinaryFormatCode, parsed, buf) //nolint:wrapcheck // as above
}

// recogniseEncode returns the encoder that does what the map would do with a field of this type, nil when there is none.
func recogniseEncode(types *pgtype.Map, typ reflect.Type, oid uint32) encoder {
	plan := types.PlanEncode(oid, pgtype.BinaryFormatCode, reflect.Zero(typ).Interface())
	r := reference()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.maps {
		expected, encode := chooseEncode(m, typ, oid)
		if expected != nil && reflect.DeepEqual(expected, plan) {
			return encode
		}
	}
	return nil
}

// chooseEncode finds the encoder for a type, and the plan whose work it does.
func chooseEncode(m *pgtype.Map, typ reflect.Type, oid uint32) (pgtype.EncodePlan, encoder) {
	value := reflect.Zero(typ).Interface()
	if encode := encodeTable(m, typ, oid); encode != nil {
		return m.PlanEncode(oid, pgtype.BinaryFormatCode, value), encode
	}
	var (
		next   pgtype.EncodePlan
		encode encoder
		wrap   func(any) (pgtype.WrappedEncodePlanNextSetter, any, bool)
	)
	if typ.Kind() == reflect.Pointer {
		if typ.Elem().Kind() == reflect.Pointer {
			return nil, nil
		}
		next, encode = chooseEncode(m, typ.Elem(), oid)
		wrap, encode = pgtype.TryWrapDerefPointerEncodePlan, throughPointer(encode)
		if plan := m.PlanEncode(oid, pgtype.BinaryFormatCode, value); next != nil && pointerPlans[typ] {
			return plan, encode // pgcodec's own
		}
	} else if bare := underlying(typ); bare != nil {
		next, encode = chooseEncode(m, bare, oid)
		wrap = pgtype.TryWrapFindUnderlyingTypeEncodePlan
	}
	if next == nil {
		return nil, nil
	}
	outer, _, ok := wrap(value)
	if !ok {
		return nil, nil
	}
	outer.SetNext(next)
	return outer, encode
}

// pointerPlans are the pointers for which the codecs have plans of their own, which do what their names say.
var pointerPlans = map[reflect.Type]bool{
	reflect.TypeFor[*uuid.UUID](): true, reflect.TypeFor[*time.Time](): true,
}

func throughPointer(encode encoder) encoder {
	return func(buf []byte, place unsafe.Pointer) ([]byte, bool) {
		target := *(*unsafe.Pointer)(place)
		if target == nil {
			return binary.BigEndian.AppendUint32(buf, null), true
		}
		return encode(buf, target)
	}
}

// encodeTable returns the encoder for a type itself.
func encodeTable(m *pgtype.Map, typ reflect.Type, oid uint32) encoder {
	switch oid {
	case pgtype.Int2OID:
		return integerEncoders[typ].two
	case pgtype.Int4OID:
		return integerEncoders[typ].four
	case pgtype.Int8OID:
		return integerEncoders[typ].eight
	case pgtype.UUIDOID:
		if typ == reflect.TypeFor[uuid.UUID]() || pgcodec.PlainUUID(typ) || isUUID(typ) && typ.NumMethod() == 0 {
			return toUUID
		}
		return nil
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID:
		if typ == reflect.TypeFor[string]() {
			return fromString
		}
		return nil
	}
	if encode := fixedEncoders[pair{oid, typ}]; encode != nil {
		return encode
	}
	if _, known := m.TypeForOID(oid); !known && typ == reflect.TypeFor[string]() {
		return fromString // an enum that nobody has registered
	}
	return nil
}

var fixedEncoders = map[pair]encoder{
	{pgtype.BoolOID, reflect.TypeFor[bool]()}:             toBool,
	{pgtype.Float4OID, reflect.TypeFor[float32]()}:        toFloat4,
	{pgtype.Float8OID, reflect.TypeFor[float64]()}:        toFloat8,
	{pgtype.TimestamptzOID, reflect.TypeFor[time.Time]()}: toTimestamptz,
	{pgtype.ByteaOID, reflect.TypeFor[[]byte]()}:          fromBytes,
	{pgtype.JSONOID, reflect.TypeFor[json.RawMessage]()}:  fromBytes,
	{pgtype.JSONBOID, reflect.TypeFor[json.RawMessage]()}: fromRaw,
}

// encoderWidths are the encoders of an integer type by the width on the wire.
type encoderWidths struct{ two, four, eight encoder }

func encodersOf[T integer]() encoderWidths { return encoderWidths{toInt2[T], toInt4[T], toInt8[T]} }

var integerEncoders = map[reflect.Type]encoderWidths{
	reflect.TypeFor[int](): encodersOf[int](), reflect.TypeFor[int8](): encodersOf[int8](), reflect.TypeFor[int16](): encodersOf[int16](),
	reflect.TypeFor[int32](): encodersOf[int32](), reflect.TypeFor[int64](): encodersOf[int64](),
	reflect.TypeFor[uint](): encodersOf[uint](), reflect.TypeFor[uint8](): encodersOf[uint8](),
	reflect.TypeFor[uint16](): encodersOf[uint16](), reflect.TypeFor[uint32](): encodersOf[uint32](),
	reflect.TypeFor[uint64](): encodersOf[uint64](),
}

// get returns an integer if it fits into an int64.
func get[T integer](place unsafe.Pointer) (int64, bool) {
	value := *(*T)(place)
	n := int64(value)
	return n, (n < 0) == (value < 0)
}

func toInt2[T integer](buf []byte, place unsafe.Pointer) ([]byte, bool) {
	n, ok := get[T](place)
	if !ok || n < math.MinInt16 || n > math.MaxInt16 {
		return buf, false
	}
	return binary.BigEndian.AppendUint16(append(buf, 0, 0, 0, 2), uint16(n)), true //nolint:gosec // it fits
}

func toInt4[T integer](buf []byte, place unsafe.Pointer) ([]byte, bool) {
	n, ok := get[T](place)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		return buf, false
	}
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), uint32(n)), true //nolint:gosec // it fits
}

func toInt8[T integer](buf []byte, place unsafe.Pointer) ([]byte, bool) {
	n, ok := get[T](place)
	if !ok {
		return buf, false
	}
	return eight(buf, uint64(n)), true //nolint:gosec // the wire's two's complement
}

func eight(buf []byte, bits uint64) []byte {
	return binary.BigEndian.AppendUint64(append(buf, 0, 0, 0, 8), bits)
}

func toBool(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	var bit byte
	if *(*bool)(place) {
		bit = 1
	}
	return append(buf, 0, 0, 0, 1, bit), true
}

func toFloat4(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), math.Float32bits(*(*float32)(place))), true
}

func toFloat8(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	return eight(buf, math.Float64bits(*(*float64)(place))), true
}

// toTimestamptz drops what is below a microsecond, as pgx does.
func toTimestamptz(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	at := (*time.Time)(place)
	n := (at.Unix()-y2kSeconds)*microsPerSecond + int64(at.Nanosecond())/nanosPerMicro
	return eight(buf, uint64(n)), true //nolint:gosec // the wire's two's complement
}

func toUUID(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	return append(append(buf, 0, 0, 0, uuidSize), (*[uuidSize]byte)(place)[:]...), true
}

func fromString(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	text := *(*string)(place)
	if len(text) > math.MaxInt32 {
		return buf, false
	}
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(text))), text...), true //nolint:gosec // it fits
}

func fromBytes(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	value := *(*[]byte)(place)
	switch {
	case value == nil:
		return binary.BigEndian.AppendUint32(buf, null), true
	case len(value) > math.MaxInt32:
		return buf, false
	}
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(value))), value...), true //nolint:gosec // it fits
}

// fromRaw writes a document with jsonb's version in front.
func fromRaw(buf []byte, place unsafe.Pointer) ([]byte, bool) {
	value := *(*json.RawMessage)(place)
	switch {
	case value == nil:
		return binary.BigEndian.AppendUint32(buf, null), true
	case len(value) >= math.MaxInt32:
		return buf, false
	}
	return append(append(binary.BigEndian.AppendUint32(buf, uint32(len(value)+1)), 1), value...), true //nolint:gosec // it fits
}
