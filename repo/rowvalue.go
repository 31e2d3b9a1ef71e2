package repo

import (
	"github.com/jackc/pgx/v5/pgtype"
)

// This file names the row on account of which a statement of a bulk write failed.

// blame names the row on account of which a statement failed; failed is the statement's position, or -1.
func (w *bulkWrite[T, K]) wrapStatement(statements []bulkStatement, failed int, err error) error {
	d := w.repository.d
	if arg, ok := unsent(err); ok {
		if position, c := w.unsendable(statements, arg, encodedAs(err)); c != nil {
			return d.unsentError(w.op, err, position, c.name)
		}
		return d.wrap(w.op, err, -1)
	}
	index := -1
	if failed >= 0 {
		index = statements[failed].row
	}
	return d.wrapRow(w.op, err, index, "")
}

// unsendable looks for the row whose value the driver couldn't send. The driver tells the argument's number and the type that
// it was to have, but not the statement.
func (w *bulkWrite[T, K]) unsendable(statements []bulkStatement, arg int, oid uint32) (int, *column) {
	types := pgtype.NewMap()
	if _, known := types.TypeForOID(oid); !known {
		return -1, nil
	}
	for i := range statements {
		s := &statements[i]
		if arg >= len(s.columns) {
			continue
		}
		if !encodes(types, oid, s.appendArgs(nil, s.row)[arg]) {
			return s.row, s.columns[arg]
		}
	}
	return -1, nil
}
