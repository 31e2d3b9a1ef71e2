package repo

import (
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// reader reads the rows of one result into structs. A row must be read into a zero struct, so that no earlier value remains.
//
// A row plan (see package rowplan) converts common types without reflection. If it declines a row, or if the model has no plan,
// scany reads the row and reports the errors (see slowReader).
type reader[T any] struct {
	shape *shape
	// columns are those of the result, nil for all of the model's in their order.
	columns []*column
	// model is what the row plan is made for, nil if there is no plan for these columns.
	model *rowplan.Model
	// extra are the targets of columns after the model's.
	extra []any

	plan    *rowplan.Plan
	planned bool
	slow    func(row *T) error
}

// newReader returns a reader for results whose columns are the model's, followed by those for extra.
func newReader[T any](s *shape, extra ...any) reader[T] {
	return reader[T]{shape: s, model: s.plans, extra: extra}
}

// read reads the current row.
func (r *reader[T]) read(rows pgx.Rows, row *T) error {
	if !r.planned {
		r.planned = true
		if r.model != nil {
			r.plan = r.model.For(rows, len(r.extra))
		}
	}
	if r.plan != nil {
		if rowplan.Scan(r.plan, rows.RawValues(), row) && r.readExtra(rows) {
			return nil
		}
		*row = *new(T)
	}
	if r.slow == nil {
		read, err := r.shape.slowReader(rows, r.columns, r.extra)
		if err != nil {
			return err
		}
		r.slow = func(row *T) error { return read(row) }
	}
	if err := r.slow(row); err != nil {
		return r.shape.asReadError(rows, err)
	}
	return nil
}

// readExtra reads the columns after the model's.
func (r *reader[T]) readExtra(rows pgx.Rows) bool {
	if len(r.extra) == 0 {
		return true
	}
	values, descriptions := rows.RawValues(), rows.FieldDescriptions()
	first := len(values) - len(r.extra)
	for i, target := range r.extra {
		d, src := &descriptions[first+i], values[first+i]
		if flag, ok := target.(*bool); ok && rowplan.Bool(rows.TypeMap(), d, src, flag) {
			continue
		}
		if rows.TypeMap().Scan(d.DataTypeOID, d.Format, src, target) != nil {
			return false
		}
	}
	return true
}

const (
	// defaultCapacity is the capacity of a list whose length is unknown.
	defaultCapacity = 16
	// maxInitialCapacity limits the capacity of a list before its first row: a limit may be large and the table small.
	maxInitialCapacity = 1024
)

// collect reads all rows and closes them. sizeHint is the largest number of rows expected, 0 if it is unknown.
func collect[T any](rows pgx.Rows, s *shape, sizeHint int) ([]T, error) {
	r := newReader[T](s)
	return r.all(rows, sizeHint)
}

// all reads all rows and closes them. sizeHint is the largest number of rows expected, 0 if it is unknown.
func (r *reader[T]) all(rows pgx.Rows, sizeHint int) ([]T, error) {
	defer rows.Close()
	if !rows.Next() {
		return []T{}, rows.Err()
	}
	if sizeHint == 0 {
		sizeHint = defaultCapacity
	}
	found := make([]T, 0, min(sizeHint, maxInitialCapacity))
	for more := true; more; more = rows.Next() {
		found = append(found, *new(T))
		if err := r.read(rows, &found[len(found)-1]); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

// readFirst reads the first row and closes rows. It returns pgx.ErrNoRows if there is none.
func readFirst[T any](rows pgx.Rows, s *shape, extra ...any) (*T, error) {
	defer rows.Close()
	if !rows.Next() {
		return nil, noRowError(rows)
	}
	row, r := new(T), newReader[T](s, extra...)
	err := r.read(rows, row)
	rows.Close()
	if failed := rows.Err(); failed != nil { // the server's error matters more than one of reading
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

// noRowError returns the reason why Next has returned false before the first row.
func noRowError(rows pgx.Rows) error {
	if err := rows.Err(); err != nil {
		return err
	}
	return pgx.ErrNoRows
}

// readValue reads the only value of a result that must have one row, and closes rows.
func readValue[V any](rows pgx.Rows) (V, error) {
	defer rows.Close()
	var value V
	if !rows.Next() {
		return value, noRowError(rows)
	}
	if !rowplan.Value(rows, &value) {
		target := new(V) // so that value needs no allocation
		if err := rows.Scan(target); err != nil {
			return value, err //nolint:wrapcheck // the caller wraps it with the operation
		}
		value = *target
	}
	rows.Close()
	return value, rows.Err()
}

// copyColumns copies the columns of one row into another and leaves its other fields unchanged.
func (s *shape) copyColumns(into, from reflect.Value) {
	for i := range s.columns {
		c := &s.columns[i]
		if f, ok := fieldOf(from, c); ok {
			ensureField(into, c.index).Set(f)
			continue
		}
		if f, ok := fieldOf(into, c); ok {
			f.SetZero()
		}
	}
}
