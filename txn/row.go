package txn

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// errDriverBytes is for what would be gone before it could be looked at.
var errDriverBytes = errors.New("txn: a *pgtype.DriverBytes can't be scanned by QueryRow, which closes the rows; use a *[]byte, or Query")

// scanRow reads the first row, if there is one, and closes the rows. It is what Scan of a pgx.Row does, without the scan plans
// that pgx keeps for the next row: here there is none. What goes wrong is left to pgx, with its errors.
func scanRow(rows pgx.Rows, dest []any) error {
	if err := rows.Err(); err != nil {
		return err
	}
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			rows.Close()
			return errDriverBytes
		}
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if !scanValues(rows, dest) {
		_ = rows.Scan(dest...) // Err tells it, below
	}
	rows.Close()
	return rows.Err()
}

// scanValues reads the row value by value. False: it is for pgx to read it, or to say what is wrong.
func scanValues(rows pgx.Rows, dest []any) bool {
	if len(dest) == 1 {
		switch value := dest[0].(type) {
		case *int64: // a key or a count: nothing is asked for more often
			if stockBigint(rows.TypeMap()) && rowplan.Value(rows, value) {
				return true
			}
		case pgx.RowScanner:
			return false
		}
	}
	return pgx.ScanRow(rows.TypeMap(), rows.FieldDescriptions(), rows.RawValues(), dest...) == nil
}

// stockBigint reports whether nobody has registered a codec of their own for bigint.
func stockBigint(types *pgtype.Map) bool {
	typ, ok := types.TypeForOID(pgtype.Int8OID)
	return ok && typ.Codec == pgtype.Codec(pgtype.Int8Codec{})
}
