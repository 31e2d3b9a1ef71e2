package repo

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// This file is the seam between rows and structs: whatever reads rows of a model goes through a reader.

// errSuppressed is what a write gets when the database took it and gave no row back.
var errSuppressed = errors.New("the database returned no row: a trigger or a rule suppressed the write")

// reader reads rows whose columns are a model's, in the model's order, and perhaps others behind them. A row is always read
// into a fresh struct, so that nothing stays behind of what was in it before.
//
// It goes by the connection's row plan (see package rowplan). What that can't take, and every error, is left to pgx's Scan.
type reader[T any] struct {
	shape *shape
	extra []any
	begun bool
	plan  *rowplan.Plan
	slow  *rowScanner
}

// read reads the current row.
func (r *reader[T]) read(rows pgx.Rows, row *T) error {
	if !r.begun {
		r.begin(rows)
	}
	if r.plan != nil {
		values := rows.RawValues()
		if rowplan.Scan(r.plan, values, row) && r.readExtra(rows, values[len(r.shape.columns):]) {
			return nil
		}
		*row = *new(T)
	}
	if r.slow == nil {
		r.slow = newRowScanner(r.shape, r.extra...)
	}
	return r.slow.scan(rows, reflect.ValueOf(row).Elem())
}

func (r *reader[T]) begin(rows pgx.Rows) {
	r.begun = true
	if r.shape.plans != nil {
		r.plan = r.shape.plans.For(rows, len(r.extra))
	}
}

// readExtra reads the columns behind the model's.
func (r *reader[T]) readExtra(rows pgx.Rows, values [][]byte) bool {
	for i, target := range r.extra {
		d := &rows.FieldDescriptions()[len(r.shape.columns)+i]
		if flag, ok := target.(*bool); ok && rowplan.Bool(rows.TypeMap(), d, values[i], flag) {
			continue
		}
		if rows.TypeMap().Scan(d.DataTypeOID, d.Format, values[i], target) != nil {
			return false
		}
	}
	return true
}

// rowScanner reads rows with pgx's Scan.
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

// The capacity of a list whose length nobody knows at the beginning.
const (
	firstCapacity = 16
	// mostExpected is the capacity that is made before there is a row: a limit may be large and the table small.
	mostExpected = 1024
)

// collect reads all rows and closes them. sizeHint is how many are expected at most, 0 when nobody knows.
func collect[T any](rows pgx.Rows, s *shape, sizeHint int) ([]T, error) {
	defer rows.Close()
	if !rows.Next() {
		return []T{}, rows.Err()
	}
	if sizeHint == 0 {
		sizeHint = firstCapacity
	}
	found := make([]T, 0, min(sizeHint, mostExpected))
	r := reader[T]{shape: s}
	for more := true; more; more = rows.Next() {
		found = oneMore(found)
		if err := r.read(rows, &found[len(found)-1]); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

// oneMore makes a list longer by a zero element. Between the length of the list and its capacity all are zero.
func oneMore[T any](list []T) []T {
	n := len(list)
	if n == cap(list) {
		longer := make([]T, n, 2*n)
		copy(longer, list)
		list = longer
	}
	return list[:n+1]
}

// scanOne reads the first row into a fresh struct and closes rows. There being none is pgx.ErrNoRows.
func scanOne[T any](rows pgx.Rows, s *shape, extra ...any) (*T, error) {
	defer rows.Close()
	if !rows.Next() {
		return nil, noRow(rows)
	}
	row := new(T)
	r := reader[T]{shape: s, extra: extra}
	if err := r.read(rows, row); err != nil {
		return nil, err
	}
	rows.Close()
	return row, rows.Err()
}

// noRow returns why there is no row.
func noRow(rows pgx.Rows) error {
	if err := rows.Err(); err != nil {
		return err
	}
	return pgx.ErrNoRows
}

// one reads the one value of the one row that there must be, and closes rows.
func one[V any](rows pgx.Rows) (V, error) {
	defer rows.Close()
	var value V
	if !rows.Next() {
		return value, noRow(rows)
	}
	if !rowplan.Value(rows, &value) {
		target := new(V) // so that value doesn't need an allocation
		if err := rows.Scan(target); err != nil {
			return value, err //nolint:wrapcheck // the caller wraps it with the operation
		}
		value = *target
	}
	rows.Close()
	return value, rows.Err()
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
