package txn

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// sqlFormats are the types that the server sends in binary, and that their codecs decode. All other types are texts. The values
// are the same as those of pgx's own driver for database/sql.
//
//nolint:gochecknoglobals // a constant
var sqlFormats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID:        pgx.BinaryFormatCode,
	pgtype.ByteaOID:       pgx.BinaryFormatCode,
	pgtype.CIDOID:         pgx.BinaryFormatCode,
	pgtype.DateOID:        pgx.BinaryFormatCode,
	pgtype.Float4OID:      pgx.BinaryFormatCode,
	pgtype.Float8OID:      pgx.BinaryFormatCode,
	pgtype.Int2OID:        pgx.BinaryFormatCode,
	pgtype.Int4OID:        pgx.BinaryFormatCode,
	pgtype.Int8OID:        pgx.BinaryFormatCode,
	pgtype.OIDOID:         pgx.BinaryFormatCode,
	pgtype.TimestampOID:   pgx.BinaryFormatCode,
	pgtype.TimestamptzOID: pgx.BinaryFormatCode,
	pgtype.XIDOID:         pgx.BinaryFormatCode,
}

// sqlRows are rows for database/sql.
type sqlRows struct {
	rows   pgx.Rows
	fields []pgconn.FieldDescription
	ready  bool // the row is there already
	more   bool // and it is one
}

var (
	_ driver.RowsColumnTypeDatabaseTypeName = (*sqlRows)(nil)
	_ driver.RowsColumnTypeLength           = (*sqlRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*sqlRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*sqlRows)(nil)
)

// newSQLRows reads the first row, because the columns may not be known before.
func newSQLRows(rows pgx.Rows) (*sqlRows, error) {
	more := rows.Next()
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, err
	}
	return &sqlRows{rows: rows, fields: rows.FieldDescriptions(), ready: true, more: more}, nil
}

// Columns returns the names of the columns.
func (r *sqlRows) Columns() []string {
	names := make([]string, len(r.fields))
	for i := range r.fields {
		names[i] = r.fields[i].Name
	}
	return names
}

// Close closes the rows.
func (r *sqlRows) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

// Next reads a row, or returns io.EOF after the last one.
func (r *sqlRows) Next(dest []driver.Value) error {
	if !r.ready {
		r.more = r.rows.Next()
	}
	r.ready = false
	if !r.more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	types := r.rows.TypeMap()
	for i, src := range r.rows.RawValues() {
		var err error
		if dest[i], err = sqlValue(types, &r.fields[i], src); err != nil {
			return fmt.Errorf("txn: column %q can't be read: %w", r.fields[i].Name, err)
		}
	}
	return nil
}

func sqlValue(types *pgtype.Map, field *pgconn.FieldDescription, src []byte) (driver.Value, error) {
	if src == nil {
		return nil, nil //nolint:nilnil // null
	}
	if _, decode := sqlFormats[field.DataTypeOID]; decode {
		if typ, ok := types.TypeForOID(field.DataTypeOID); ok {
			return typ.Codec.DecodeDatabaseSQLValue(types, field.DataTypeOID, field.Format, src) //nolint:wrapcheck // by Next
		}
	}
	switch field.DataTypeOID {
	case pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return bytes.Clone(src), nil
	}
	return string(src), nil
}

// ColumnTypeDatabaseTypeName returns the name of the type in upper case, or its OID if pgx doesn't know the type.
func (r *sqlRows) ColumnTypeDatabaseTypeName(index int) string {
	oid := r.fields[index].DataTypeOID
	if typ, ok := r.rows.TypeMap().TypeForOID(oid); ok {
		return strings.ToUpper(typ.Name)
	}
	return strconv.FormatUint(uint64(oid), 10)
}

// varHeader is the size that type modifiers include (PostgreSQL's VARHDRSZ).
const varHeader = 4

// ColumnTypeLength returns the maximum length of a type of variable length.
func (r *sqlRows) ColumnTypeLength(index int) (int64, bool) {
	switch field := &r.fields[index]; field.DataTypeOID {
	case pgtype.TextOID, pgtype.ByteaOID:
		return math.MaxInt64, true
	case pgtype.VarcharOID, pgtype.BPCharOID:
		return int64(field.TypeModifier - varHeader), true
	case pgtype.VarbitOID:
		return int64(field.TypeModifier), true
	}
	return 0, false
}

// ColumnTypePrecisionScale returns precision and scale of a numeric column.
func (r *sqlRows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	field := &r.fields[index]
	if field.DataTypeOID != pgtype.NumericOID {
		return 0, 0, false
	}
	const scaleBits, scaleMask = 16, 0xffff
	modifier := int64(field.TypeModifier - varHeader)
	return modifier >> scaleBits & scaleMask, modifier & scaleMask, true
}

// ColumnTypeScanType returns a type that the column can be scanned into.
func (r *sqlRows) ColumnTypeScanType(index int) reflect.Type {
	switch r.fields[index].DataTypeOID {
	case pgtype.Float8OID, pgtype.NumericOID:
		return reflect.TypeFor[float64]()
	case pgtype.Float4OID:
		return reflect.TypeFor[float32]()
	case pgtype.Int8OID:
		return reflect.TypeFor[int64]()
	case pgtype.Int4OID:
		return reflect.TypeFor[int32]()
	case pgtype.Int2OID:
		return reflect.TypeFor[int16]()
	case pgtype.BoolOID:
		return reflect.TypeFor[bool]()
	case pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		return reflect.TypeFor[time.Time]()
	case pgtype.ByteaOID:
		return reflect.TypeFor[[]byte]()
	}
	return reflect.TypeFor[string]()
}
