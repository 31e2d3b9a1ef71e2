// Package pgcodec holds codecs for uuid, json, jsonb and timestamptz that take the short way between Go values and the
// wire where pgx's own go through text, reflection or json.Unmarshal. They add encode and scan plans only: what
// rows.Values, a destination of type any and database/sql get stays pgx's own, and so does whatever they have no plan
// for.
package pgcodec

import (
	"encoding/json"

	"github.com/jackc/pgx/v5/pgtype"
)

// Register makes a connection use the codecs, and the arrays of their types too: pgx's array codec scans its elements with
// the element codec it was made with. Ranges, multiranges and records look the element's codec up by its OID and need no
// registration. It costs no round trip.
//
// A Map belongs to one connection and is not safe for concurrent use; the types registered here are shared by all of them
// and keep no state.
func Register(m *pgtype.Map) {
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapSlice}, m.TryWrapEncodePlanFuncs...)
	m.RegisterTypes(types)
}

var types = newTypes() //nolint:gochecknoglobals // a table nobody writes to

func newTypes() []*pgtype.Type {
	scalars := []*pgtype.Type{
		{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}},
		{Name: "json", OID: pgtype.JSONOID, Codec: jsonCodec{
			JSONCodec: &pgtype.JSONCodec{Marshal: json.Marshal, Unmarshal: json.Unmarshal},
		}},
		{Name: "jsonb", OID: pgtype.JSONBOID, Codec: jsonbCodec{
			JSONBCodec: &pgtype.JSONBCodec{Marshal: json.Marshal, Unmarshal: json.Unmarshal},
		}},
		{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: timestamptzCodec{TimestamptzCodec: &pgtype.TimestamptzCodec{}}},
	}
	arrays := map[string]uint32{
		"uuid": pgtype.UUIDArrayOID, "json": pgtype.JSONArrayOID, "jsonb": pgtype.JSONBArrayOID,
		"timestamptz": pgtype.TimestamptzArrayOID,
	}
	all := scalars
	for _, element := range scalars {
		all = append(all, &pgtype.Type{
			Name: "_" + element.Name, OID: arrays[element.Name], Codec: &pgtype.ArrayCodec{ElementType: element},
		})
	}
	return all
}
