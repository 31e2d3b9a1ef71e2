package rowplan

import (
	"database/sql"
	"encoding/json"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// fastType is a row of the table of types: a Go type, and the column types that are converted without pgx's codecs. Pointers and
// named types of the same kind are derived from the row.
type fastType struct {
	goType  reflect.Type
	sqlType string // proposed type of a column, in SQL
	columns []columnType
	// pointer makes the decoder for a pointer to the type.
	pointer func(decode decoder) decoder
}

// columnType describes how one column type is converted from and to a Go type.
type columnType struct {
	oid    uint32 // enumOID: enums and unknown types
	format format // of the values that decode reads
	decode decoder
	encode encoder // writes the binary format; nil leaves that to pgx
	// exact excludes derived types. For JSON, pgx unmarshals into them instead.
	exact bool
	// parsed excludes pgx's own codec, which parses the values. The entry is valid for package pgcodec's codec only.
	parsed bool
	// usesArena is set if decode allocates from the arena.
	usesArena bool
}

// enumOID stands for enums, registered or not, and for other types that a map has no type for. It is not a valid OID.
const enumOID = 0

type format uint8

const (
	binaryFormat format = 1 << pgtype.BinaryFormatCode
	textFormat   format = 1 << pgtype.TextFormatCode
	anyFormat           = binaryFormat | textFormat
)

func (f format) has(code int16) bool { return f&(1<<code) != 0 }

// fastTypes is the table. A new fast type is one row, with its decoders and encoders in decode.go and encode.go.
var fastTypes = byGoType( //nolint:gochecknoglobals // a table, never changed
	row[bool]("boolean", inBinary(pgtype.BoolOID, decodeBool, encodeBool)),
	row[int]("bigint", integers[int]()...),
	row[int8]("smallint", integers[int8]()...),
	row[int16]("smallint", integers[int16]()...),
	row[int32]("integer", integers[int32]()...),
	row[int64]("bigint", integers[int64]()...),
	row[uint]("numeric", integers[uint]()...),
	row[uint8]("smallint", integers[uint8]()...),
	row[uint16]("integer", integers[uint16]()...),
	row[uint32]("bigint", integers[uint32]()...),
	row[uint64]("numeric", integers[uint64]()...),
	row[float32]("real", inBinary(pgtype.Float4OID, decodeFloat4, encodeFloat4)),
	row[float64]("double precision", inBinary(pgtype.Float8OID, decodeFloat8, encodeFloat8)),
	row[string]("text", append(characters(decodeString, encodeString),
		columnType{oid: enumOID, format: textFormat, decode: decodeString, encode: encodeString, usesArena: true},
		columnType{oid: pgtype.UUIDOID, format: binaryFormat, decode: decodeUUIDText, usesArena: true},
		columnType{oid: pgtype.JSONOID, format: textFormat, decode: decodeString, exact: true, usesArena: true},
		columnType{oid: pgtype.JSONBOID, format: textFormat, decode: decodeString, exact: true, usesArena: true})...),
	row[[]byte]("bytea", append(characters(decodeBytes, nil),
		columnType{oid: pgtype.ByteaOID, format: binaryFormat, decode: decodeBytes, encode: encodeBytes, usesArena: true},
		columnType{oid: enumOID, format: textFormat, decode: decodeBytes, usesArena: true},
		columnType{oid: pgtype.JSONOID, format: textFormat, decode: decodeBytes, exact: true, usesArena: true},
		columnType{oid: pgtype.JSONBOID, format: textFormat, decode: decodeBytes, exact: true, usesArena: true})...),
	row[[uuidSize]byte]("uuid", inBinary(pgtype.UUIDOID, decodeUUID, encodeUUID)),
	row[uuid.UUID]("uuid", inBinary(pgtype.UUIDOID, decodeUUID, encodeUUID)),
	row[time.Time]("timestamptz",
		inBinary(pgtype.TimestamptzOID, decodeTimestamptz, encodeTimestamptz),
		inBinary(pgtype.TimestampOID, decodeTimestamp, nil),
		inBinary(pgtype.DateOID, decodeDate, nil)),
	row[json.RawMessage]("jsonb",
		columnType{oid: pgtype.JSONOID, format: anyFormat, decode: decodeJSON, encode: encodeBytes, exact: true, parsed: true, usesArena: true},
		columnType{
			oid: pgtype.JSONBOID, format: textFormat, decode: decodeJSON, encode: encodeJSONB, exact: true, parsed: true, usesArena: true,
		}),
	row[*json.RawMessage]("jsonb",
		columnType{oid: pgtype.JSONOID, format: anyFormat, decode: decodeJSONPointer, exact: true, parsed: true, usesArena: true},
		columnType{oid: pgtype.JSONBOID, format: textFormat, decode: decodeJSONPointer, exact: true, parsed: true, usesArena: true}),
	row[pgtype.Text]("text", append(characters(decodeText, nil),
		columnType{oid: enumOID, format: textFormat, decode: decodeText, usesArena: true})...),
)

// nullTypes are the rows of the nullable types of package sql. Their Scan methods receive decoded values, so they are fast only
// for column types whose values they store unchanged.
var nullTypes = byGoType( //nolint:gochecknoglobals // a table, never changed
	nullable[sql.NullBool, bool](pgtype.BoolOID),
	nullable[sql.NullInt16, int16](pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID),
	nullable[sql.NullInt32, int32](pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID),
	nullable[sql.NullInt64, int64](pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID),
	nullable[sql.NullFloat64, float64](pgtype.Float8OID),
	nullable[sql.NullString, string](pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID),
	nullable[sql.NullTime, time.Time](pgtype.TimestamptzOID),
)

func byGoType(rows ...*fastType) map[reflect.Type]*fastType {
	table := make(map[reflect.Type]*fastType, len(rows))
	for _, row := range rows {
		table[row.goType] = row
	}
	return table
}

func row[T any](sqlType string, columns ...columnType) *fastType {
	return &fastType{goType: reflect.TypeFor[T](), sqlType: sqlType, columns: columns, pointer: pointer[T]}
}

// nullable returns the row of a type of package sql, derived from the row of its first field's type.
func nullable[N, V any](oids ...uint32) *fastType {
	value := fastTypes[reflect.TypeFor[V]()]
	null := row[N](value.sqlType)
	for _, oid := range oids {
		c := *value.column(oid)
		c.decode, c.encode, c.exact, c.usesArena = valid[N](c.decode), nil, true, true
		null.columns = append(null.columns, c)
	}
	return null
}

func inBinary(oid uint32, decode decoder, encode encoder) columnType {
	return columnType{oid: oid, format: binaryFormat, decode: decode, encode: encode}
}

func integers[T integer]() []columnType {
	return []columnType{
		inBinary(pgtype.Int2OID, decodeInt2[T], encodeInt2[T]), inBinary(pgtype.Int4OID, decodeInt4[T], encodeInt4[T]),
		inBinary(pgtype.Int8OID, decodeInt8[T], encodeInt8[T]),
	}
}

// characters returns the column types whose values are the same in text and in binary.
func characters(decode decoder, encode encoder) []columnType {
	var columns []columnType
	for _, oid := range []uint32{pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID} {
		columns = append(columns, columnType{oid: oid, format: anyFormat, decode: decode, encode: encode, usesArena: true})
	}
	return columns
}

func (t *fastType) column(oid uint32) *columnType {
	for i := range t.columns {
		if t.columns[i].oid == oid {
			return &t.columns[i]
		}
	}
	return nil
}

// rowOf returns the row of a type, or the row that the type is derived from, or nil. exact is set if the row is the type's.
func rowOf(typ reflect.Type) (found *fastType, exact bool) {
	if found = fastTypes[typ]; found == nil {
		found = nullTypes[typ]
	}
	if found != nil {
		return found, true
	}
	if pgcodec.ConvertsItself(typ) {
		return nil, false
	}
	return fastTypes[underlying(typ)], false
}

// find returns the entry for a column type and a Go type, or nil to leave the conversion to pgx. isPointer is set if the entry is
// that of the pointer's target.
func find(types *pgtype.Map, typ reflect.Type, oid uint32) (found *fastType, column *columnType, isPointer bool) {
	found, exact := rowOf(typ)
	if found == nil && typ.Kind() == reflect.Pointer {
		found, exact = rowOf(typ.Elem())
		isPointer = true
	}
	if found == nil {
		return nil, nil, false
	}
	switch pgcodec.OriginOf(types, oid) {
	case pgcodec.Enum, pgcodec.Unknown:
		column = found.column(enumOID)
	case pgcodec.Stock:
		if column = found.column(oid); column != nil && column.parsed {
			column = nil
		}
	case pgcodec.Fast:
		column = found.column(oid)
	case pgcodec.Foreign:
	}
	if column == nil || column.exact && (!exact || isPointer) {
		return nil, nil, false
	}
	return found, column, isPointer
}

// decoderFor returns the decoder for a column type and a Go type, or nil to leave the column to pgx. usesArena reports whether it
// allocates from the arena.
func decoderFor(types *pgtype.Map, typ reflect.Type, oid uint32, format int16) (decode decoder, usesArena bool) {
	found, column, isPointer := find(types, typ, oid)
	if column == nil || !column.format.has(format) || !pgcodec.HasStockScanWrappers(types) {
		return nil, false
	}
	if column.oid == enumOID {
		for _, target := range targets(typ) {
			if !pgcodec.IsStockFor(types, target) {
				return nil, false
			}
		}
	}
	if isPointer {
		return found.pointer(column.decode), column.usesArena
	}
	return column.decode, column.usesArena
}

// targets returns the values for whose types pgx searches its map when it plans a scan into a Go type.
func targets(typ reflect.Type) []any {
	found := []any{reflect.New(typ).Interface()}
	if typ.Kind() == reflect.Pointer {
		found = append(found, reflect.New(typ.Elem()).Interface())
	}
	return found
}

// encoderFor returns the encoder for a Go type and a column type, or nil to leave the column to pgx.
func encoderFor(types *pgtype.Map, typ reflect.Type, oid uint32) encoder {
	_, column, isPointer := find(types, typ, oid)
	if column == nil || column.encode == nil || !pgcodec.HasStockEncodeWrappers(types) {
		return nil
	}
	if column.oid == enumOID {
		for _, value := range append(targets(typ), reflect.Zero(typ).Interface(), "") {
			if !pgcodec.IsStockFor(types, value) {
				return nil
			}
		}
	}
	if isPointer {
		return encodePointer(column.encode)
	}
	return column.encode
}

// kinds are the predeclared types by kind.
var kinds = map[reflect.Kind]reflect.Type{
	reflect.Bool: reflect.TypeFor[bool](), reflect.String: reflect.TypeFor[string](),
	reflect.Int: reflect.TypeFor[int](), reflect.Int8: reflect.TypeFor[int8](), reflect.Int16: reflect.TypeFor[int16](),
	reflect.Int32: reflect.TypeFor[int32](), reflect.Int64: reflect.TypeFor[int64](),
	reflect.Uint: reflect.TypeFor[uint](), reflect.Uint8: reflect.TypeFor[uint8](), reflect.Uint16: reflect.TypeFor[uint16](),
	reflect.Uint32: reflect.TypeFor[uint32](), reflect.Uint64: reflect.TypeFor[uint64](),
	reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

// underlying returns the type in the table that has the same underlying type, or nil.
func underlying(typ reflect.Type) reflect.Type {
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem() == reflect.TypeFor[byte]():
		return reflect.TypeFor[[]byte]()
	case typ.Kind() == reflect.Array && typ.Len() == uuidSize && typ.Elem() == reflect.TypeFor[byte]():
		return reflect.TypeFor[[uuidSize]byte]()
	}
	return kinds[typ.Kind()]
}

// SQLType returns the proposed column type, in SQL, for a Go type in the table or derived from it, "" for others.
func SQLType(typ reflect.Type) string {
	found, _ := rowOf(typ)
	if found == nil {
		found = fastTypes[underlying(typ)] // methods don't change the proposal
	}
	if found == nil {
		return ""
	}
	return found.sqlType
}
