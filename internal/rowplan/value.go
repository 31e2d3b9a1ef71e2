package rowplan

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Value reads the one column of the current row, the answer to a question of the library's own such as how many rows there
// are, so that no codec of the application has a say in it. It returns false for a type or a format that it doesn't know.
func Value[V any](rows pgx.Rows, value *V) bool {
	descriptions, values := rows.FieldDescriptions(), rows.RawValues()
	if len(descriptions) != 1 || len(values) != 1 || descriptions[0].Format != pgtype.BinaryFormatCode {
		return false
	}
	src := values[0]
	switch value := any(value).(type) {
	case *int64:
		if descriptions[0].DataTypeOID != pgtype.Int8OID || len(src) != 8 {
			return false
		}
		*value = int64(binary.BigEndian.Uint64(src)) //nolint:gosec // the wire's two's complement
		return true
	case *bool:
		return ReadBool(&descriptions[0], src, value)
	}
	return false
}

// ReadBool reads a column of that kind; it returns false for another type or format, and for NULL.
func ReadBool(description *pgconn.FieldDescription, src []byte, value *bool) bool {
	if description.DataTypeOID != pgtype.BoolOID || description.Format != pgtype.BinaryFormatCode || len(src) != 1 {
		return false
	}
	*value = src[0] == 1
	return true
}
