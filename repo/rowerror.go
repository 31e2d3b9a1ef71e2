package repo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// RowError reports which row made a bulk write fail. Nothing was written. It unwraps to the cause: [ErrNotFound], [ErrDeleted], a
// [*StaleError], or an error of the server or the driver about a value.
type RowError struct {
	// Table is the model's table, Index the row's position.
	Table string
	Index int
	// Column is the column whose value was refused, "" if unknown.
	Column string

	err error
}

func (e *RowError) Error() string {
	text := fmt.Sprintf("repo: row at index %d for %s", e.Index, e.Table)
	if e.Column != "" {
		text += fmt.Sprintf(", column %q", e.Column)
	}
	return text + ": " + strings.TrimPrefix(e.err.Error(), "repo: ")
}

func (e *RowError) Unwrap() error { return e.err }

// isAboutARow reports whether the server refused a row's data rather than the statement.
func isAboutARow(pg *pgconn.PgError) bool {
	switch pg.Code[:2] {
	case "21", "22", "23", "44", "P0": // cardinality, data, constraints, check options of views, exceptions of triggers
		return true
	}
	return false
}

// wrapRow is wrap for an error that belongs to one row. index is -1 if the row is unknown.
func (d *descriptor) wrapRow(op string, err error, index int, column string) error {
	wrapped := d.wrap(op, err, index)
	if index < 0 || wrapped == err { //nolint:errorlint // identity is meant
		return wrapped
	}
	if pg, ok := pgError(err); ok && (!isAboutARow(pg) || constraintKind(pg.Code) != "") {
		return wrapped
	}
	return &RowError{Table: d.label, Index: index, Column: column, err: wrapped}
}

// rowError is wrap for an error that belongs to the row at this index.
func (d *descriptor) rowError(op string, err error, index int) error {
	return &RowError{Table: d.label, Index: index, err: d.wrap(op, err, index)}
}

// wrapEncode wraps an encodeError. index is the row's position, or -1.
func (d *descriptor) wrapEncode(op string, err *encodeError, index int, column string) error {
	wrapped := &statementError{text: "repo: " + op + " " + d.label + ": " + (&encodeError{}).Error(), err: err}
	if index < 0 {
		return wrapped
	}
	return &RowError{Table: d.label, Index: index, Column: column, err: wrapped}
}

// wrapCopy wraps an error of a COPY. position returns the position of a row by its number in the COPY, of the last row that was
// sent for -1. columns are those of the COPY.
func (d *descriptor) wrapCopy(op string, err error, position func(number int) int, columns []*column) error {
	name := func(copied string) string {
		for _, c := range columns {
			if c.name == copied { // in a stage it differs from the model's
				return d.columns[slices.IndexFunc(d.columns, func(known column) bool { return known.field == c.field })].name
			}
		}
		return ""
	}
	if err == nil {
		return nil
	}
	if unsent, ok := errors.AsType[*encodeError](err); ok {
		return d.wrapEncode(op, unsent, position(-1), name(unsent.column))
	}
	pg, ok := pgError(err)
	if !ok {
		return d.wrap(op, err, -1)
	}
	line, column := copyLine(pg)
	if line < 1 {
		return d.wrap(op, err, -1)
	}
	return d.wrapRow(op, err, position(line-1), name(column))
}

// copyLine returns the line and the column that COPY refused, 0 and "" if unknown. The server reports them only in its context,
// whose words are translated. The line is the first number after the table's name, and the column follows it.
func copyLine(pg *pgconn.PgError) (line int, column string) {
	_, context, found := strings.Cut(pg.Where, "COPY ")
	if !found {
		return 0, ""
	}
	context, _, _ = strings.Cut(context, "\n")
	_, context, found = strings.Cut(context, ", ")
	if !found {
		return 0, ""
	}
	context = context[max(0, strings.IndexAny(context, "0123456789")):]
	end := 0
	for end < len(context) && isDigit(context[end]) {
		end++
	}
	line, _ = strconv.Atoi(context[:end])
	if rest, more := strings.CutPrefix(context[end:], ", "); more {
		_, column, _ = strings.Cut(rest, " ")
		column, _, _ = strings.Cut(column, ": ")
	}
	return line, column
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
