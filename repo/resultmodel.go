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

// resultType is a struct type into which results of your SQL are read. Its fields are found by the names of the columns.
type resultType struct {
	shape  *shape // nil if the type can't be a model
	models [resultModelCacheSize]atomic.Pointer[resultModel]
}

// resultModelCacheSize is how many lists of columns are cached for a type.
const resultModelCacheSize = 64

// resultModel is a result type with the columns of a result.
type resultModel struct {
	names   []string
	columns []*column
	model   *rowplan.Model // nil: scany reads the result
}

var resultTypes sync.Map //nolint:gochecknoglobals // a cache, of reflect.Type to *resultType

func resultTypeOf(typ reflect.Type) *resultType {
	if known, ok := resultTypes.Load(typ); ok {
		return known.(*resultType) //nolint:forcetypeassert // nothing else is stored
	}
	t := &resultType{}
	if typ.Kind() == reflect.Struct {
		t.shape, _ = compile(typ) // scany may be able to read a type that can't be a model
	}
	known, _ := resultTypes.LoadOrStore(typ, t)
	return known.(*resultType) //nolint:forcetypeassert // nothing else is stored
}

// model returns the model for a result with these columns.
func (t *resultType) model(columns []pgconn.FieldDescription) *resultModel {
	var h maphash.Hash
	h.SetSeed(cacheSeed)
	for i := range columns {
		_, _ = h.WriteString(columns[i].Name)
		_ = h.WriteByte(0)
	}
	slot := &t.models[h.Sum64()%resultModelCacheSize]
	if known := slot.Load(); known != nil && known.matches(columns) {
		return known
	}
	compiled := t.compile(columns)
	slot.Store(compiled)
	return compiled
}

func (m *resultModel) matches(columns []pgconn.FieldDescription) bool {
	if len(columns) != len(m.names) {
		return false
	}
	for i := range columns {
		if columns[i].Name != m.names[i] {
			return false
		}
	}
	return true
}

func (t *resultType) compile(columns []pgconn.FieldDescription) *resultModel {
	m := &resultModel{names: make([]string, len(columns)), columns: make([]*column, len(columns))}
	paths := make([][]int, len(columns))
	used := make(map[int]bool, len(columns))
	complete := true
	for i := range columns {
		m.names[i] = columns[i].Name
		position, ok := t.shape.byName[columns[i].Name]
		if !ok || used[position] {
			complete = false
			continue
		}
		used[position] = true
		m.columns[i] = &t.shape.columns[position]
		paths[i] = m.columns[i].index
	}
	if complete {
		m.model = rowplan.NewModel(t.shape.typ, paths)
	}
	return m
}

// newResultReader returns a reader for a result of your SQL, or nil for results without a row plan, which scany reads. These are
// results with columns in nested pointers to structs, without a field or with the same name, and values other than structs.
func newResultReader[U any](rows pgx.Rows) *reader[U] {
	t := resultTypeOf(reflect.TypeFor[U]())
	if t.shape == nil {
		return nil
	}
	m := t.model(rows.FieldDescriptions())
	if m.model == nil {
		return nil
	}
	return &reader[U]{shape: t.shape, columns: m.columns, model: m.model}
}

// exactlyOne reads a result that must have one row, and closes rows.
func (r *reader[T]) exactlyOne(rows pgx.Rows) (row T, err error) {
	defer rows.Close()
	if !rows.Next() {
		return row, noRowError(rows)
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
