// Package pgcodec holds codecs for uuid, json, jsonb and timestamptz that convert directly between Go values and the wire
// format. pgx's own codecs go through text, reflection or json.Unmarshal for them. The codecs only add encode and scan plans:
// rows.Values, destinations of type any and database/sql keep pgx's behavior. The numbers in JSON are an exception (see
// [RegisterExact]).
//
// # When a codec is bypassed
//
// The project's fast paths (this package, rowplan and txn) convert a value without pgx's codec only if all of this holds:
//
//   - The *[pgtype.Type] that the connection's map returns for the column's OID is the one in pgx's default map or one of this
//     package, compared by address. pgx forbids changing a registered Type, so the address identifies the codec. A copy of
//     pgx's own Type, or a codec with other settings, counts as the application's codec. Enums are the exception: their Types
//     are made for each database, so they are recognized by pgx's codec, *[pgtype.EnumCodec].
//   - The map's lists of wrapper functions are those of pgx and of [Register].
//   - The Go type is one whose conversion is known, such as time.Time, or it has no methods that take part in a conversion:
//     those of [sql.Scanner], [driver.Valuer], pgtype's interfaces, or the text, binary and JSON (un)marshalers.
//
// In all other cases pgx decides. See [OriginOf], [HasStockScanWrappers], [HasStockEncodeWrappers] and [ConvertsItself].
package pgcodec

import (
	"encoding/json"

	"github.com/jackc/pgx/v5/pgtype"
)

// Register makes a connection's map use the codecs. It sends nothing to the server.
//
// Arrays of the types are registered too, because pgx's array codec scans elements with the codec that it was made with. Ranges,
// multiranges and records look up the codec of their elements by OID.
//
// A Map belongs to one connection and is not safe for concurrent use. The registered types keep no state and are shared by all
// maps.
func Register(m *pgtype.Map) {
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapSlice}, m.TryWrapEncodePlanFuncs...)
	m.RegisterTypes(types)
}

var types = newTypes() //nolint:gochecknoglobals // never changed

func newTypes() []*pgtype.Type {
	return withArrays([]*pgtype.Type{
		{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}},
		{Name: "json", OID: pgtype.JSONOID, Codec: jsonCodec{
			JSONCodec: &pgtype.JSONCodec{Marshal: json.Marshal, Unmarshal: unmarshal},
		}},
		{Name: "jsonb", OID: pgtype.JSONBOID, Codec: jsonbCodec{
			JSONBCodec: &pgtype.JSONBCodec{Marshal: json.Marshal, Unmarshal: unmarshal},
		}},
		{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: timestamptzCodec{TimestamptzCodec: &pgtype.TimestamptzCodec{}}},
		intervalType, bitType, varbitType, realType, doubleType, numericType, namesType,
	})
}

// withArrays adds the types of arrays.
func withArrays(scalars []*pgtype.Type) []*pgtype.Type {
	arrays := map[string]uint32{
		"uuid": pgtype.UUIDArrayOID, "json": pgtype.JSONArrayOID, "jsonb": pgtype.JSONBArrayOID,
		"timestamptz": pgtype.TimestamptzArrayOID, "interval": pgtype.IntervalArrayOID,
		"bit": pgtype.BitArrayOID, "varbit": pgtype.VarbitArrayOID,
		"float4": pgtype.Float4ArrayOID, "float8": pgtype.Float8ArrayOID, "numeric": pgtype.NumericArrayOID,
	}
	all := scalars
	for _, element := range scalars {
		if arrays[element.Name] == 0 { // an array itself
			continue
		}
		all = append(all, &pgtype.Type{
			Name: "_" + element.Name, OID: arrays[element.Name], Codec: &pgtype.ArrayCodec{ElementType: element},
		})
	}
	return all
}
