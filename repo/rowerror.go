package repo

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// RowError reports which row made a bulk write fail. Nothing was written. It unwraps to the cause: [ErrNotFound], [ErrDeleted], a
// [*StaleError], a [*ValueError], or another error of the server about the row.
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
	if value, ok := errors.AsType[*ValueError](e.err); e.Column != "" && (!ok || value.Column == "" || value.message != "") {
		text += fmt.Sprintf(", column %q", e.Column)
	}
	return text + ": " + strings.TrimPrefix(e.err.Error(), "repo: ")
}

func (e *RowError) Unwrap() error { return e.err }

// isAboutARow reports whether the server refused a row's data rather than the statement. A trigger may raise an exception with any
// code, and the check of a policy has the code of a missing privilege. Their functions in the server tell them apart (PostgreSQL's
// src/pl/plpgsql/src/pl_exec.c and src/backend/executor/execMain.c).
func isAboutARow(pg *pgconn.PgError) bool {
	switch pg.Routine {
	case "exec_stmt_raise":
		return sqlstate.RemedyOf(pg, false) == sqlstate.NoRetry
	case "ExecWithCheckOptions":
		return true
	}
	switch pg.Code[:2] {
	case "21", "22", "23", "44", // cardinality, data, constraints, check options of views
		"2F", "38", "39", "P0", // functions and triggers
		"54": // limits, such as that on the size of a row in an index
		return true
	}
	return false
}

// wrapRow is wrap for an error that belongs to one row. index is -1 if the row is unknown.
func (d *descriptor) wrapRow(op string, err error, index int, column string) error {
	complete := err == nil || isComplete(err)
	wrapped := d.wrap(op, err, index)
	if index < 0 || complete {
		return wrapped
	}
	if pg, ok := pgError(err); ok && (!isAboutARow(pg) || constraintKind(pg.Code) != "") {
		return wrapped
	}
	if value, ok := errors.AsType[*ValueError](wrapped); ok {
		column = cmp.Or(column, value.Column)
	}
	return &RowError{Table: d.label, Index: index, Column: column, err: wrapped}
}

// rowError is wrap for an error that belongs to the row at this index.
func (d *descriptor) rowError(op string, err error, index int) error {
	return &RowError{Table: d.label, Index: index, err: d.wrap(op, err, index)}
}

// wrapCopy wraps an error of a COPY. position returns the position of a row by its number in the COPY, of the last row that was
// sent for -1. columns are those of the COPY.
func (d *descriptor) wrapCopy(op string, err error, position func(number int) int, columns []*column) error {
	if err == nil {
		return nil
	}
	name := func(copied string) *column {
		for _, c := range columns {
			if c.name == copied { // in a stage it differs from the model's
				return d.ofField(c)
			}
		}
		return nil
	}
	if unsent, ok := errors.AsType[*ValueError](err); ok {
		copied := name(unsent.Column)
		unsent.Column, unsent.Parameter = "", 0
		unsent.setColumn(copied)
		if live := d.live.Load(); live != nil && copied != nil && unsent.Type == "" {
			if known := live.columns[d.byName[copied.name]]; known != nil {
				unsent.Type = known.Type
			}
		}
		return d.wrapRow(op, unsent, position(-1), unsent.Column)
	}
	pg, ok := pgError(err)
	if !ok {
		return d.wrap(op, err, -1)
	}
	line, column := copyLine(pg)
	if line < 1 {
		return d.wrap(op, err, -1)
	}
	named := name(column)
	if named == nil {
		return d.wrapRow(op, err, position(line-1), "")
	}
	if value := asValueError(err); value != nil {
		value.setColumn(named)
		err = value
	}
	return d.wrapRow(op, err, position(line-1), named.name)
}

// ofField returns the model's column for a column of a COPY, which may be named differently in a stage.
func (d *descriptor) ofField(copied *column) *column {
	return &d.columns[d.positionOf(copied)]
}

// positionOf returns the position of a column's field in the model.
func (d *descriptor) positionOf(c *column) int {
	return slices.IndexFunc(d.columns, func(known column) bool { return known.field == c.field })
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
