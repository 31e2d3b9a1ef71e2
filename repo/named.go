package repo

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// This file reads results of people's own SQL by the row plan where their columns have fields of the same names. Everything
// else is scany's: pointers, maps and single values, structs behind pointers, columns without a field or twice, and the
// errors that go with them.

// named is a struct type whose fields are found by name.
type named struct {
	shape  *shape
	models [knownModels]atomic.Pointer[namedModel]
}

// knownModels is how many different lists of columns are remembered for a type.
const knownModels = 64

// namedModel is the model for results with these columns.
type namedModel struct {
	columns []string
	paths   [][]int
	plans   *rowplan.Model // nil: scany reads them
}

var namedTypes sync.Map //nolint:gochecknoglobals // a cache, of reflect.Type to *named

func namedOf(typ reflect.Type) *named {
	if known, ok := namedTypes.Load(typ); ok {
		return known.(*named) //nolint:forcetypeassert // nothing else is stored
	}
	n := &named{}
	if typ.Kind() == reflect.Struct {
		n.shape, _ = compile(typ) // what it can't take scany may
	}
	known, _ := namedTypes.LoadOrStore(typ, n)
	return known.(*named) //nolint:forcetypeassert // nothing else is stored
}

// model returns the model for a result.
func (n *named) model(columns []pgconn.FieldDescription) *namedModel {
	var h maphash.Hash
	h.SetSeed(cacheSeed)
	for i := range columns {
		_, _ = h.WriteString(columns[i].Name)
		_ = h.WriteByte(0)
	}
	place := &n.models[h.Sum64()%knownModels]
	if known := place.Load(); known != nil && known.fits(columns) {
		return known
	}
	fresh := n.compile(columns)
	place.Store(fresh)
	return fresh
}

func (m *namedModel) fits(columns []pgconn.FieldDescription) bool {
	if len(columns) != len(m.columns) {
		return false
	}
	for i := range columns {
		if columns[i].Name != m.columns[i] {
			return false
		}
	}
	return true
}

func (n *named) compile(columns []pgconn.FieldDescription) *namedModel {
	m := &namedModel{columns: make([]string, len(columns)), paths: make([][]int, len(columns))}
	taken := make(map[int]bool, len(columns))
	complete := true
	for i := range columns {
		m.columns[i] = columns[i].Name
		position, ok := n.shape.byName[columns[i].Name]
		if !ok || taken[position] {
			complete = false
			continue
		}
		taken[position] = true
		m.paths[i] = n.shape.columns[position].index
	}
	if complete {
		m.plans = rowplan.NewModel(n.shape.typ, m.paths)
	}
	return m
}

// namedReader reads rows of a result into structs of type U.
type namedReader[U any] struct {
	model *namedModel
	plan  *rowplan.Plan
}

// newNamedReader returns nil for a result that scany has to read.
func newNamedReader[U any](rows pgx.Rows) *namedReader[U] {
	n := namedOf(reflect.TypeFor[U]())
	if n.shape == nil {
		return nil
	}
	m := n.model(rows.FieldDescriptions())
	if m.plans == nil {
		return nil
	}
	plan := m.plans.For(rows, 0)
	if plan == nil {
		return nil
	}
	return &namedReader[U]{model: m, plan: plan}
}

// read reads the current row into a zero U.
func (r *namedReader[U]) read(rows pgx.Rows, row *U) error {
	if rowplan.Scan(r.plan, rows.RawValues(), row) {
		return nil
	}
	*row = *new(U)
	v := reflect.ValueOf(row).Elem()
	targets := make([]any, len(r.model.paths))
	for i, path := range r.model.paths {
		targets[i] = v.FieldByIndex(path).Addr().Interface()
	}
	return rows.Scan(targets...) //nolint:wrapcheck // the caller wraps it
}

// all reads all rows and closes them.
func (r *namedReader[U]) all(rows pgx.Rows) ([]U, error) {
	defer rows.Close()
	found := make([]U, 0, firstCapacity)
	for rows.Next() {
		found = oneMore(found)
		if err := r.read(rows, &found[len(found)-1]); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

// single reads the one row that there must be, and closes the rows.
func (r *namedReader[U]) single(rows pgx.Rows) (row U, err error) {
	defer rows.Close()
	if !rows.Next() {
		if err = rows.Err(); err == nil {
			err = pgx.ErrNoRows
		}
		return row, err
	}
	if err := r.read(rows, &row); err != nil {
		return row, err
	}
	n := 1
	for rows.Next() {
		n++
	}
	if err = rows.Err(); err == nil && n > 1 {
		err = fmt.Errorf("expected 1 row, got: %d", n)
	}
	return row, err
}
