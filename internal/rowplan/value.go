package rowplan

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// Value reads the current row of one bigint or boolean column, such as a count, and reports whether it did. It returns false for
// other results, for targets other than *int64 and *bool, and for NULL. It also returns false if the application has registered
// a codec for the column's type. The caller then uses Rows.Scan.
func Value[V any](rows pgx.Rows, value *V) bool {
	descriptions, values := rows.FieldDescriptions(), rows.RawValues()
	if len(descriptions) != 1 || len(values) != 1 {
		return false
	}
	switch value := any(value).(type) {
	case *int64:
		d, src := &descriptions[0], values[0]
		if len(src) != 8 || !isStock(rows.TypeMap(), d, pgtype.Int8OID) {
			return false
		}
		*value = int64(binary.BigEndian.Uint64(src)) //nolint:gosec // two's complement on the wire
		return true
	case *bool:
		return Bool(rows.TypeMap(), &descriptions[0], values[0], value)
	}
	return false
}

// Bool reads the value of a boolean column and reports whether it did. See [Value].
func Bool(types *pgtype.Map, description *pgconn.FieldDescription, src []byte, value *bool) bool {
	if len(src) != 1 || !isStock(types, description, pgtype.BoolOID) {
		return false
	}
	*value = src[0] == 1
	return true
}

// isStock reports whether a column has this type, arrives in binary, and is read by pgx's own codec.
func isStock(types *pgtype.Map, d *pgconn.FieldDescription, oid uint32) bool {
	return types != nil && d.DataTypeOID == oid && d.Format == pgtype.BinaryFormatCode && pgcodec.OriginOf(types, oid) == pgcodec.Stock
}
