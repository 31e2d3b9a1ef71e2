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

	"github.com/jackc/pgx/v5/pgtype"
)

// Encoder writes rows in the binary format of COPY. Values of the types in the table are written directly, under the conditions in
// the documentation of package pgcodec. pgx encodes all others. An Encoder belongs to one COPY.
type Encoder struct {
	columns []encodeColumn
	types   *pgtype.Map
	rows    uint64 // written so far
}

// Column is a column of a COPY and the field whose value it gets.
type Column struct {
	// Path is the field's index path. Boxed marks a column whose value is not the field's, so that it must come as an argument.
	Path  []int
	Boxed bool
	// OID is the column's type.
	OID uint32
	// Ordinal marks a bigint column without a field, which gets the row's number, from 0.
	Ordinal bool
}

type encodeColumn struct {
	encode  encoder // nil: pgx encodes the column
	offset  uintptr
	oid     uint32
	ordinal bool
}

// encoder appends the length and the value of the field at this address; the length of NULL is -1. It returns false and buf
// unchanged for values that it leaves to pgx.
type encoder func(buf []byte, field unsafe.Pointer) ([]byte, bool)

// NewEncoder returns an encoder for rows of a struct type.
func NewEncoder(types *pgtype.Map, typ reflect.Type, columns []Column) *Encoder {
	e := &Encoder{types: types, columns: make([]encodeColumn, len(columns))}
	for i, column := range columns {
		e.columns[i] = encodeColumn{oid: column.OID, ordinal: column.Ordinal}
		if column.Boxed || column.Ordinal {
			continue
		}
		if m := NewModel(typ, [][]int{column.Path}); m != nil {
			e.columns[i].offset = m.fields[0].offset
			e.columns[i].encode = encoderFor(types, m.fields[0].typ, column.OID)
		}
	}
	return e
}

// Direct returns the number of columns that have an encoder.
func (e *Encoder) Direct() int {
	n := 0
	for i := range e.columns {
		if e.columns[i].encode != nil {
			n++
		}
	}
	return n
}

// Append appends the row at this address, a struct of the encoder's type. boxed returns the value of a column as an argument. It is
// called for values that pgx has to encode. With an error, Append returns the position of the column whose value can't be sent.
func (e *Encoder) Append(buf []byte, row unsafe.Pointer, boxed func(column int) any) ([]byte, int, error) {
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(e.columns))) //nolint:gosec // a table has at most 1600 columns
	for i := range e.columns {
		c := &e.columns[i]
		if c.ordinal {
			buf = appendEight(buf, e.rows)
			continue
		}
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
	e.rows++
	return buf, -1, nil
}

const null = math.MaxUint32 // the length of NULL, -1

// appendValue encodes a value as pgx's CopyFrom does. A value that can't be encoded in binary, such as text for a number, is first
// parsed as the column's type.
func appendValue(m *pgtype.Map, buf []byte, oid uint32, value any) ([]byte, error) {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, null)
	longer, err := m.Encode(oid, pgtype.BinaryFormatCode, value, buf)
	if err != nil {
		var textErr error
		if longer, textErr = encodeParsed(m, buf, oid, value); textErr != nil {
			return nil, err //nolint:wrapcheck // the caller wraps it with the column
		}
	}
	if longer == nil {
		return buf, nil
	}
	return setLength(longer, start)
}

var errTooLong = errors.New("the value is longer than PostgreSQL allows")

func setLength(buf []byte, start int) ([]byte, error) {
	n := len(buf) - start - 4
	if n > math.MaxInt32 {
		return nil, errTooLong
	}
	binary.BigEndian.PutUint32(buf[start:], uint32(n)) //nolint:gosec // it fits
	return buf, nil
}

func encodeParsed(m *pgtype.Map, buf []byte, oid uint32, value any) ([]byte, error) {
	text, ok := value.(string)
	if !ok {
		encoded, err := m.Encode(oid, pgtype.TextFormatCode, value, nil)
		if err != nil {
			return nil, fmt.Errorf("encode as text: %w", err)
		}
		text = string(encoded)
	}
	if typ, ok := m.TypeForOID(oid); ok {
		if _, ok := typ.Codec.(*pgtype.ArrayCodec); ok {
			var array pgtype.Array[any] // keeps the dimensions
			if m.Scan(oid, pgtype.TextFormatCode, []byte(text), &array) == nil {
				return m.Encode(oid, pgtype.BinaryFormatCode, array, buf) //nolint:wrapcheck // the caller returns the first error
			}
		}
	}
	var parsed any
	if err := m.Scan(oid, pgtype.TextFormatCode, []byte(text), &parsed); err != nil {
		return nil, err //nolint:wrapcheck // as above
	}
	return m.Encode(oid, pgtype.BinaryFormatCode, parsed, buf) //nolint:wrapcheck // as above
}

// encodePointer returns the encoder for a pointer to the type that encode writes.
func encodePointer(encode encoder) encoder {
	return func(buf []byte, field unsafe.Pointer) ([]byte, bool) {
		target := *(*unsafe.Pointer)(field)
		if target == nil {
			return binary.BigEndian.AppendUint32(buf, null), true
		}
		return encode(buf, target)
	}
}

// integerValue returns an integer and whether it fits into an int64.
func integerValue[T integer](field unsafe.Pointer) (int64, bool) {
	value := *(*T)(field)
	n := int64(value)
	return n, (n < 0) == (value < 0)
}

func encodeInt2[T integer](buf []byte, field unsafe.Pointer) ([]byte, bool) {
	n, ok := integerValue[T](field)
	if !ok || n < math.MinInt16 || n > math.MaxInt16 {
		return buf, false
	}
	return binary.BigEndian.AppendUint16(append(buf, 0, 0, 0, 2), uint16(n)), true //nolint:gosec // it fits
}

func encodeInt4[T integer](buf []byte, field unsafe.Pointer) ([]byte, bool) {
	n, ok := integerValue[T](field)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		return buf, false
	}
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), uint32(n)), true //nolint:gosec // it fits
}

func encodeInt8[T integer](buf []byte, field unsafe.Pointer) ([]byte, bool) {
	n, ok := integerValue[T](field)
	if !ok {
		return buf, false
	}
	return appendEight(buf, uint64(n)), true //nolint:gosec // two's complement on the wire
}

func appendEight(buf []byte, bits uint64) []byte {
	return binary.BigEndian.AppendUint64(append(buf, 0, 0, 0, 8), bits)
}

func encodeBool(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	var bit byte
	if *(*bool)(field) {
		bit = 1
	}
	return append(buf, 0, 0, 0, 1, bit), true
}

func encodeFloat4(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), math.Float32bits(*(*float32)(field))), true
}

func encodeFloat8(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	return appendEight(buf, math.Float64bits(*(*float64)(field))), true
}

// encodeTimestamptz truncates to microseconds, as pgx does.
func encodeTimestamptz(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	at := (*time.Time)(field)
	n := (at.Unix()-y2kSeconds)*microsPerSecond + int64(at.Nanosecond())/nanosPerMicro
	return appendEight(buf, uint64(n)), true //nolint:gosec // two's complement on the wire
}

func encodeUUID(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	return append(append(buf, 0, 0, 0, uuidSize), (*[uuidSize]byte)(field)[:]...), true
}

func encodeString(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	text := *(*string)(field)
	if len(text) > math.MaxInt32 {
		return buf, false
	}
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(text))), text...), true //nolint:gosec // it fits
}

func encodeBytes(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	value := *(*[]byte)(field)
	switch {
	case value == nil:
		return binary.BigEndian.AppendUint32(buf, null), true
	case len(value) > math.MaxInt32:
		return buf, false
	}
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(value))), value...), true //nolint:gosec // it fits
}

// encodeJSONB writes jsonb's version and a document.
func encodeJSONB(buf []byte, field unsafe.Pointer) ([]byte, bool) {
	value := *(*json.RawMessage)(field)
	switch {
	case value == nil:
		return binary.BigEndian.AppendUint32(buf, null), true
	case len(value) >= math.MaxInt32:
		return buf, false
	}
	return append(append(binary.BigEndian.AppendUint32(buf, uint32(len(value)+1)), 1), value...), true //nolint:gosec // it fits
}
