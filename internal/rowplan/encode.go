package rowplan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// Encoder writes rows in a format of COPY, so that the server stores what an INSERT with parameters of the columns' types stores.
//
// The format is binary if each column's values are certain to have a binary form that the encoder can write. The server can't detect
// that bytes of another type are sent: eight digits sent for an unknown type of eight bytes are a number. In all other cases, and
// where pgx sends a parameter as text, the format is text, which the server parses as the column's type. COPY has one format for
// all columns.
//
// In the binary format, values of the types in the table are written directly, under the conditions in the documentation of package
// pgcodec. pgx encodes all others. An Encoder belongs to one COPY.
type Encoder struct {
	columns []encodeColumn
	types   *pgtype.Map
	rows    uint64 // written so far
	text    bool
}

// Column is a column of a COPY and the field whose value it gets.
type Column struct {
	// Path is the field's index path. Boxed marks a column whose value is not the field's, so that it must come as an argument.
	Path  []int
	Boxed bool
	// OID is the column's type, for a domain its base type. Enum marks an enum, which need not be registered.
	OID  uint32
	Enum bool
	// Text marks a column whose values have to travel as text of the type OID, because its own type differs in binary.
	Text bool
	// JSON marks a column whose argument is text in JSON.
	JSON bool
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
		if column.Ordinal {
			continue
		}
		e.text = e.text || !hasBinaryForm(types, fieldType(typ, column.Path), column)
		if column.Boxed {
			continue
		}
		if m := NewModel(typ, [][]int{column.Path}); m != nil {
			e.columns[i].offset = m.fields[0].offset
			e.columns[i].encode = encoderFor(types, m.fields[0].typ, column.OID)
		}
	}
	return e
}

// fieldType returns the type of the field with this index path, which may lead through pointers.
func fieldType(typ reflect.Type, path []int) reflect.Type {
	for _, index := range path {
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		typ = typ.Field(index).Type
	}
	return typ
}

// hasBinaryForm reports whether every value of a Go type is certain to be sent in the column type's binary form, if it can be sent.
func hasBinaryForm(types *pgtype.Map, typ reflect.Type, c Column) bool {
	origin := pgcodec.OriginOf(types, c.OID)
	switch {
	case c.Text, origin == pgcodec.Unknown && !c.Enum:
		return false
	case c.OID == pgtype.NameOID: // the server cuts a long name in text, and refuses it in binary
		return false
	case c.JSON:
		return c.OID == pgtype.JSONOID || c.OID == pgtype.JSONBOID
	}
	if _, column, _ := find(types, typ, c.OID); column != nil {
		parsed := column.oid == enumOID || column.oid == pgtype.UUIDOID // by the server, from text
		return column.encode != nil || !parsed
	}
	if kind := typ.Kind(); kind == reflect.Float32 || kind == reflect.Float64 { // pgx rounds to the column's precision
		return c.OID == pgtype.Float4OID || c.OID == pgtype.Float8OID
	}
	known, ok := types.TypeForValue(reflect.Zero(typ).Interface())
	return ok && known.OID == c.OID && known.Codec.FormatSupported(pgtype.BinaryFormatCode)
}

// Text reports whether the format is text.
func (e *Encoder) Text() bool { return e.text }

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
	if e.text {
		return e.appendText(buf, boxed)
	}
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

// EncodeText encodes an argument as text, nil for NULL. The server reads the text as the value that pgx sends for a parameter of
// this type. Errors are pgx's.
func EncodeText(types *pgtype.Map, oid uint32, value any) ([]byte, error) {
	if text, ok := value.(string); ok {
		return append(make([]byte, 0, len(text)), text...), nil
	}
	text, err := types.Encode(oid, pgtype.TextFormatCode, rounded(types, oid, value), []byte{})
	if err == nil {
		return text, nil
	}
	// pgx keeps one plan for all slices of types that it has no own plan for. A list of lists then has no text after another list.
	if wrapped, list, ok := pgtype.TryWrapMultiDimSliceEncodePlan(value); ok {
		if next := types.PlanEncode(oid, pgtype.TextFormatCode, list); next != nil {
			wrapped.SetNext(next)
			return wrapped.Encode(value, []byte{}) //nolint:wrapcheck // the caller wraps it
		}
	}
	return nil, err //nolint:wrapcheck // the caller wraps it
}

// rounded returns the value that an INSERT sends for a column of real or real[]. An INSERT sends the binary form, for which pgx
// rounds to the column's precision. In text pgx writes all digits, and the server refuses some numbers that are too small or too
// large. Other values are returned unchanged.
func rounded(types *pgtype.Map, oid uint32, value any) any {
	switch oid {
	case pgtype.Float4OID:
		return throughBinary[*float32](types, oid, value)
	case pgtype.Float4ArrayOID:
		return throughBinary[pgtype.Array[*float32]](types, oid, value)
	}
	return value
}

// throughBinary converts a value to T by its binary form. It returns the value unchanged if it is NULL or has no binary form.
func throughBinary[T any](types *pgtype.Map, oid uint32, value any) any {
	binary, err := types.Encode(oid, pgtype.BinaryFormatCode, value, nil)
	if err != nil || binary == nil {
		return value
	}
	var converted T
	if err := types.Scan(oid, pgtype.BinaryFormatCode, binary, &converted); err != nil {
		return value
	}
	return converted
}

// appendText appends a row in the text format: values separated by tabs, in a line (PostgreSQL manual, "COPY", "Text Format").
func (e *Encoder) appendText(buf []byte, boxed func(column int) any) ([]byte, int, error) {
	start := len(buf)
	for i := range e.columns {
		if i > 0 {
			buf = append(buf, '\t')
		}
		if e.columns[i].ordinal {
			buf = strconv.AppendUint(buf, e.rows, 10)
			continue
		}
		text, err := EncodeText(e.types, e.columns[i].oid, boxed(i))
		if err != nil {
			return buf[:start], i, err
		}
		if text == nil {
			buf = append(buf, `\N`...)
			continue
		}
		buf = appendEscaped(buf, text)
	}
	e.rows++
	return append(buf, '\n'), -1, nil
}

// appendEscaped appends a value of the text format.
func appendEscaped(buf, text []byte) []byte {
	for _, c := range text {
		switch c {
		case '\\':
			buf = append(buf, `\\`...)
		case '\n':
			buf = append(buf, `\n`...)
		case '\r':
			buf = append(buf, `\r`...)
		case '\t':
			buf = append(buf, `\t`...)
		default:
			buf = append(buf, c)
		}
	}
	return buf
}

const null = math.MaxUint32 // the length of NULL, -1

// appendValue encodes a value in binary.
func appendValue(m *pgtype.Map, buf []byte, oid uint32, value any) ([]byte, error) {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, null)
	longer, err := m.Encode(oid, pgtype.BinaryFormatCode, value, buf)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it with the column
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
