package repo

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// This file is the seam between rows and structs: whatever reads rows of a model goes through a rowScanner.

// errSuppressed is what a write gets when the database took it and gave no row back.
var errSuppressed = errors.New("the database returned no row: a trigger or a rule suppressed the write")

// rowScanner reads rows whose columns are a model's, in the model's order, and perhaps others behind them. A row is always
// read into a fresh struct, so that nothing stays behind of what was in it before.
type rowScanner struct {
	shape   *shape
	targets []any
	// loose are the targets of columns behind a pointer to a struct, which stays nil when all of them are NULL.
	loose []reflect.Value
}

func newRowScanner(s *shape, extra ...any) *rowScanner {
	r := &rowScanner{shape: s, targets: make([]any, len(s.columns)+len(extra))}
	copy(r.targets[len(s.columns):], extra)
	if s.indirect {
		r.loose = make([]reflect.Value, len(s.columns))
	}
	return r
}

// scan reads the current row into v, a zero struct that can be set.
func (r *rowScanner) scan(rows pgx.Rows, v reflect.Value) error {
	for i := range r.shape.columns {
		c := &r.shape.columns[i]
		if c.indirect {
			r.loose[i] = reflect.New(reflect.PointerTo(c.typ))
			r.targets[i] = r.loose[i].Interface()
			continue
		}
		r.targets[i] = v.FieldByIndex(c.index).Addr().Interface()
	}
	if err := rows.Scan(r.targets...); err != nil {
		return err //nolint:wrapcheck // the caller wraps it with the operation
	}
	if r.shape.indirect {
		return r.settle(v)
	}
	return nil
}

// settle puts what was read behind pointers into place.
func (r *rowScanner) settle(v reflect.Value) error {
	for i := range r.shape.columns {
		c := &r.shape.columns[i]
		if !c.indirect || r.loose[i].Elem().IsNil() {
			continue
		}
		place(v, c.index).Set(r.loose[i].Elem().Elem())
	}
	for i := range r.shape.columns { // a NULL beside values needs a field that can be NULL
		c := &r.shape.columns[i]
		if !c.indirect || !r.loose[i].Elem().IsNil() || isNullable(c.typ) {
			continue
		}
		if _, ok := fieldOf(v, c); ok {
			return fmt.Errorf("cannot scan NULL of column %q into field %s of type %v", c.name, c.field, c.typ)
		}
	}
	return nil
}

// place returns the field at index and makes the structs on the way to it.
func place(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// collect reads all rows and closes them. sizeHint is how many are expected at most, 0 when nobody knows.
func collect[T any](rows pgx.Rows, s *shape, sizeHint int) ([]T, error) {
	defer rows.Close()
	const most = 1024 // a limit may be large and the table small
	found := make([]T, 0, min(sizeHint, most))
	r := newRowScanner(s)
	for rows.Next() {
		var row T
		found = append(found, row)
		if err := r.scan(rows, reflect.ValueOf(&found[len(found)-1]).Elem()); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

// scanOne reads the first row into a fresh struct and closes rows. There being none is pgx.ErrNoRows.
func scanOne[T any](rows pgx.Rows, s *shape, extra ...any) (*T, error) {
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, pgx.ErrNoRows
	}
	row := new(T)
	if err := newRowScanner(s, extra...).scan(rows, reflect.ValueOf(row).Elem()); err != nil {
		return nil, err
	}
	rows.Close()
	return row, rows.Err()
}

// adopt copies the columns of a fresh row into one that a caller holds, and leaves its other fields alone.
func (s *shape) adopt(into, fresh reflect.Value) {
	for i := range s.columns {
		c := &s.columns[i]
		if f, ok := fieldOf(fresh, c); ok {
			place(into, c.index).Set(f)
			continue
		}
		if f, ok := fieldOf(into, c); ok {
			f.SetZero()
		}
	}
}
