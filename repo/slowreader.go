package repo

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// scanAPI is the library's own scany, for which a column without a field is an error.
var scanAPI = sync.OnceValues(func() (*pgxscan.API, error) { //nolint:gochecknoglobals // made once, never changed
	api, err := pgxscan.NewDBScanAPI()
	if err != nil {
		return nil, err //nolint:wrapcheck // can't happen: there are no options
	}
	return pgxscan.NewAPI(api)
})

// slowReader returns a function that reads the current row into a pointer to the model. columns are those of the result, nil for
// all of the model's in their order. extra are the targets of columns after them.
func (s *shape) slowReader(rows pgx.Rows, columns []*column, extra []any) (func(row any) error, error) {
	if !s.scanyReads() {
		if columns == nil {
			columns = make([]*column, len(s.columns))
			for i := range s.columns {
				columns[i] = &s.columns[i]
			}
		}
		r := newFieldReader(columns, extra)
		return func(row any) error { return r.read(rows, reflect.ValueOf(row).Elem()) }, nil
	}
	api, err := scanAPI()
	if err != nil {
		return nil, err
	}
	return api.NewRowScanner(&modelRows{Rows: rows, extra: extra}).Scan, nil
}

// modelRows hides the last columns of a result from scany and reads them into extra.
type modelRows struct {
	pgx.Rows

	extra   []any
	targets []any
}

// FieldDescriptions describes the columns that scany reads.
func (r *modelRows) FieldDescriptions() []pgconn.FieldDescription {
	all := r.Rows.FieldDescriptions()
	return all[:len(all)-len(r.extra)]
}

// Scan reads the current row.
func (r *modelRows) Scan(targets ...any) error {
	r.targets = append(append(r.targets[:0], targets...), r.extra...)
	return scanRow(r.Rows, r.targets)
}

// scanRow reads the current row as Rows.Scan does, which would keep its error in the rows. Closing the rows then doesn't return
// the server's error anymore, and a write may be undone.
func scanRow(rows pgx.Rows, targets []any) error {
	if err := checkNulls(rows, targets...); err != nil {
		return err
	}
	return pgx.ScanRow(rows.TypeMap(), rows.FieldDescriptions(), rows.RawValues(), targets...) //nolint:wrapcheck // the caller wraps it
}

// checkNulls returns an error if a target that can't hold NULL gets one from a column of a type that it can't hold either. pgx would
// read some of them as zero, at random (see pgcodec.CanScan).
func checkNulls(rows pgx.Rows, targets ...any) error {
	values, fields := rows.RawValues(), rows.FieldDescriptions()
	for i, target := range targets[:min(len(targets), len(values))] {
		if values[i] != nil || target == nil || isNullable(reflect.TypeOf(target).Elem()) {
			continue
		}
		if d := &fields[i]; !pgcodec.CanScan(rows.TypeMap().PlanScan(d.DataTypeOID, d.Format, target)) {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: d.Name, Err: fmt.Errorf("cannot scan NULL into %T", target)}
		}
	}
	return nil
}

// columnTo returns a function that reads the only column of a result, as pgx.RowTo does.
func columnTo[V any](rows pgx.Rows) pgx.RowToFunc[V] {
	return func(row pgx.CollectableRow) (V, error) {
		if values := row.RawValues(); len(values) == 1 && values[0] == nil {
			var value V
			if err := checkNulls(rows, &value); err != nil {
				return value, err
			}
		}
		return pgx.RowTo[V](row)
	}
}

// scanyReads reports whether scany reads the model as it is documented. Three kinds of models are beyond it, and are read by a
// fieldReader:
//
//   - A nested pointer to a struct stays nil when all its columns are NULL. scany always allocates the struct, and then fails on
//     NULL in a field that can't hold it.
//   - A struct that leads back to itself through a field that is one value, such as a role json. scany follows it without end.
//   - A struct that is one value, such as sql.NullString, in a column x beside columns named x.something. scany also treats the
//     fields of such a struct as columns named x.field.
func (s *shape) scanyReads() bool {
	return !s.indirect && checkEndless(s.typ) == nil && !slices.ContainsFunc(s.columns, func(c column) bool {
		prefix := c.name + "."
		return slices.ContainsFunc(s.columns, func(other column) bool { return strings.HasPrefix(other.name, prefix) })
	})
}

// fieldReader reads rows with pgx's Scan into fields by their position. It is only for models that scany can't read.
type fieldReader struct {
	columns []*column
	targets []any
	// nested are the targets of columns in nested pointers to structs, which stay nil if all their columns are NULL.
	nested []reflect.Value
}

func newFieldReader(columns []*column, extra []any) *fieldReader {
	r := &fieldReader{columns: columns, targets: make([]any, len(columns)+len(extra)), nested: make([]reflect.Value, len(columns))}
	copy(r.targets[len(columns):], extra)
	return r
}

// read reads the current row into a zero struct.
func (r *fieldReader) read(rows pgx.Rows, row reflect.Value) error {
	for i, c := range r.columns {
		if c.indirect {
			r.nested[i] = reflect.New(reflect.PointerTo(c.typ))
			r.targets[i] = r.nested[i].Interface()
			continue
		}
		r.targets[i] = row.FieldByIndex(c.index).Addr().Interface()
	}
	if err := scanRow(rows, r.targets); err != nil {
		return err
	}
	for i, c := range r.columns {
		if c.indirect && !r.nested[i].Elem().IsNil() {
			ensureField(row, c.index).Set(r.nested[i].Elem().Elem())
		}
	}
	return r.checkNulls(row)
}

// checkNulls returns an error if a nested struct that has values has a NULL in a field that can't hold it.
func (r *fieldReader) checkNulls(row reflect.Value) error {
	for i, c := range r.columns {
		if !c.indirect || !r.nested[i].Elem().IsNil() || isNullable(c.typ) {
			continue
		}
		if _, ok := fieldOf(row, c); ok {
			return fmt.Errorf("cannot scan NULL of column %q into field %s of type %v", c.name, c.field, c.typ)
		}
	}
	return nil
}

// ensureField returns the field at index and allocates the nested structs on the path to it.
func ensureField(v reflect.Value, index []int) reflect.Value {
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

var endless sync.Map //nolint:gochecknoglobals // a cache, of reflect.Type to error or nil

// checkEndless returns an error for a struct that contains itself through structs and pointers, which scany would follow without
// end.
func checkEndless(typ reflect.Type) error {
	if known, ok := endless.Load(typ); ok {
		err, _ := known.(error)
		return err
	}
	err := follow(typ, nil)
	endless.Store(typ, err)
	return err
}

func follow(typ reflect.Type, above []reflect.Type) error {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	if slices.Contains(above, typ) {
		return fmt.Errorf("repo: type %v contains itself, which would make its list of columns endless: exclude the field with `db:\"-\"`", typ)
	}
	above = append(slices.Clone(above), typ)
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		if !f.IsExported() && !f.Anonymous || name == "-" {
			continue
		}
		if err := follow(f.Type, above); err != nil {
			return err
		}
	}
	return nil
}
