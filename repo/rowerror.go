package repo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// RowError says which row made a bulk write fail. Nothing has been written. It unwraps to what was wrong: [ErrNotFound],
// [ErrDeleted], a [*StaleError], or what the server or the driver said of a value.
type RowError struct {
	// Table is the model's table, Index the position of the row.
	Table string
	Index int
	// Column is the column whose value was refused, "" when that isn't known.
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

// isAboutARow reports whether the server has refused what it was sent for a row, rather than the statement.
func isAboutARow(pg *pgconn.PgError) bool {
	switch pg.Code[:2] {
	case "21", "22", "23", "44", "P0": // cardinality, data, constraints, check options of views, exceptions of triggers
		return true
	}
	return false
}

// wrapRow is wrap for an error that one row is to blame for; index is -1 when nobody knows which.
func (d *descriptor) wrapRow(op string, err error, index int, column string) error {
	wrapped := d.wrap(op, err, index)
	if index < 0 || wrapped == err { //nolint:errorlint // the very same
		return wrapped
	}
	if pg, ok := pgError(err); ok && (!isAboutARow(pg) || constraintKind(pg.Code) != "") {
		return wrapped
	}
	return &RowError{Table: d.label, Index: index, Column: column, err: wrapped}
}

// rowError is wrap for an error that the row at this index is to blame for.
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

// wrapCopy turns an error of a COPY into what a repository returns. position tells the position of a row by its number in the
// COPY, that of the last one that was taken for -1; columns are those of the COPY.
func (d *descriptor) wrapCopy(op string, err error, position func(number int) int, columns []*column) error {
	name := func(copied string) string {
		for _, c := range columns {
			if c.name == copied { // in a stage it is another than in the model
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
	line, column := copyPlace(pg)
	if line < 1 {
		return d.wrap(op, err, -1)
	}
	return d.wrapRow(op, err, position(line-1), name(column))
}

// copyPlace returns the line and the column that COPY refused, 0 and "" when the server doesn't tell. Its words are
// translated, but the line's number is the first there is behind the table's name, and the column follows it.
func copyPlace(pg *pgconn.PgError) (line int, column string) {
	_, place, found := strings.Cut(pg.Where, "COPY ")
	if !found {
		return 0, ""
	}
	place, _, _ = strings.Cut(place, "\n")
	_, place, found = strings.Cut(place, ", ")
	if !found {
		return 0, ""
	}
	place = place[max(0, strings.IndexAny(place, "0123456789")):]
	end := 0
	for end < len(place) && isDigit(place[end]) {
		end++
	}
	line, _ = strconv.Atoi(place[:end])
	if rest, more := strings.CutPrefix(place[end:], ", "); more {
		_, column, _ = strings.Cut(rest, " ")
		column, _, _ = strings.Cut(column, ": ")
	}
	return line, column
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
