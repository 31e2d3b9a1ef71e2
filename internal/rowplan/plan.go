// Package rowplan reads the rows of a result into structs without reflection or interface values for common types. Its [Encoder]
// does the reverse for COPY.
//
// A struct type is compiled once into a [Model]. Each connection keeps a [Plan] for a model and the columns of a result. A row is
// then a loop over its columns: the address of the field, and a decoder that writes there.
//
// # When pgx's codecs are bypassed
//
// For each column, a plan gets a scan plan from pgx's type map, as Rows.Scan does. A decoder replaces it only under
// the conditions in the documentation of package pgcodec, and only for the types in one table (see fastTypes). If a decoder
// declines a value, such as NULL or a number out of range, pgx's scan plan reads it. If that fails too, the caller reads the row
// in another way, which also gives the error.
//
// # What is checked, and what is trusted
//
// A plan checks these each time it is used:
//   - the number of columns, and the type and format of each
//   - the identity of the types that the map returns for them
//   - the identity of the map's list of wrapper functions
//
// pgx forbids changing registered types and the list of wrappers in place, so that is not checked. A connection reads one result
// at a time.
package rowplan

import (
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// Model is a struct type and the fields that hold columns. It is immutable and safe for concurrent use.
type Model struct {
	typ    reflect.Type
	fields []field
}

type field struct {
	offset uintptr
	typ    reflect.Type
}

// NewModel compiles a struct type. paths are the index paths of the fields, in the order of the columns in results. It returns
// nil if a path leads through a pointer, because the field then has no fixed offset.
func NewModel(typ reflect.Type, paths [][]int) *Model {
	m := &Model{typ: typ, fields: make([]field, len(paths))}
	for i, path := range paths {
		current := typ
		for _, index := range path {
			if current.Kind() == reflect.Pointer {
				return nil
			}
			f := current.Field(index)
			m.fields[i].offset += f.Offset
			current = f.Type
		}
		m.fields[i].typ = current
	}
	return m
}

// Plan reads the rows of a result into structs of a model. It belongs to a connection and must not be used concurrently.
type Plan struct {
	model   *Model
	columns []column
	mapped  []mappedType
	// wrappers is the type map's list when the plan was made.
	wrappers []pgtype.TryWrapScanPlanFunc
	arena    arena
}

// column describes how one column is read into its field.
type column struct {
	decode    decoder // nil: scan reads the column
	offset    uintptr
	oid       uint32
	format    int16
	usesArena bool // decode allocates from the arena
	typ       reflect.Type
	scan      pgtype.ScanPlan // nil: pgx can't scan the type into the field
}

// mappedType is a type that the map returned when the plan was made.
type mappedType struct {
	oid    uint32
	target any // looked up by value if the map has no type for the OID
	typ    *pgtype.Type
}

func (t *mappedType) isUnchanged(m *pgtype.Map) bool {
	typ, ok := m.TypeForOID(t.oid)
	if !ok && t.target != nil {
		typ, _ = m.TypeForValue(t.target)
	}
	return typ == t.typ
}

// cacheKey is the key of a connection's plans in its custom data.
const cacheKey = "github.com/rdsfx-go/rdsfx/internal/rowplan"

// maxPlans is how many plans a connection keeps. Applications have a model for each table or query. If there are more models, they
// are made at run time, and discarding all plans is better than growing.
const maxPlans = 512

type cache map[*Model]*Plan

// For returns the connection's plan for a result whose columns are the model's, followed by this number of other columns. It
// returns nil if the result has another number of columns or no connection. Next must have been called.
func (m *Model) For(rows pgx.Rows, others int) *Plan {
	conn, types, descriptions := rows.Conn(), rows.TypeMap(), rows.FieldDescriptions()
	if conn == nil || types == nil || len(descriptions) != len(m.fields)+others {
		return nil
	}
	data := conn.PgConn().CustomData()
	plans, _ := data[cacheKey].(cache)
	if p := plans[m]; p != nil && p.fits(types, descriptions) {
		p.begin()
		return p
	}
	if plans == nil || len(plans) >= maxPlans {
		plans = cache{}
		data[cacheKey] = plans
	}
	p := m.newPlan(types, descriptions)
	plans[m] = p
	return p
}

// begin prepares the plan for a result.
func (p *Plan) begin() { p.arena = arena{result: p.arena.result + 1} }

// fits reports whether the plan can be used for a result.
func (p *Plan) fits(types *pgtype.Map, descriptions []pgconn.FieldDescription) bool {
	return p.matchesColumns(descriptions) && p.matchesTypes(types)
}

// matchesColumns reports whether the columns of a result are the plan's.
func (p *Plan) matchesColumns(descriptions []pgconn.FieldDescription) bool {
	for i := range p.columns {
		if d := &descriptions[i]; d.DataTypeOID != p.columns[i].oid || d.Format != p.columns[i].format {
			return false
		}
	}
	return true
}

// matchesTypes reports whether the type map returns the same types and has the same wrappers as when the plan was made.
func (p *Plan) matchesTypes(types *pgtype.Map) bool {
	for i := range p.mapped {
		if !p.mapped[i].isUnchanged(types) {
			return false
		}
	}
	return sameSlice(types.TryWrapScanPlanFuncs, p.wrappers)
}

// sameSlice reports whether two lists have the same memory.
func sameSlice[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

func (m *Model) newPlan(types *pgtype.Map, descriptions []pgconn.FieldDescription) *Plan {
	p := &Plan{model: m, columns: make([]column, len(m.fields)), wrappers: types.TryWrapScanPlanFuncs}
	seen := map[uint32]bool{}
	for i, f := range m.fields {
		oid, format, target := descriptions[i].DataTypeOID, descriptions[i].Format, reflect.New(f.typ).Interface()
		c := column{offset: f.offset, oid: oid, format: format, typ: f.typ, scan: types.PlanScan(oid, format, target)}
		if !pgcodec.CanScan(c.scan) {
			c.scan = nil
		}
		c.decode, c.usesArena = decoderFor(types, f.typ, oid, format)
		p.columns[i] = c
		if typ, ok := types.TypeForOID(oid); !ok {
			for _, target := range targets(f.typ) {
				typ, _ = types.TypeForValue(target)
				p.mapped = append(p.mapped, mappedType{oid: oid, target: target, typ: typ})
			}
		} else if !seen[oid] {
			seen[oid] = true
			p.mapped = append(p.mapped, mappedType{oid: oid, typ: typ})
		}
	}
	return p
}

// Direct returns the number of columns that have a decoder.
func (p *Plan) Direct() int {
	n := 0
	for i := range p.columns {
		if p.columns[i].decode != nil {
			n++
		}
	}
	return n
}

// Scan reads the values of a row into a struct of the plan's model, whose fields must be zero. It reports whether it could read
// all of them. If not, some fields may be set, and the caller must read the row in another way. values may be reused afterwards.
func Scan[T any](p *Plan, values [][]byte, row *T) bool {
	if reflect.TypeFor[T]() != p.model.typ || len(values) < len(p.columns) {
		return false
	}
	return p.scan(values, unsafe.Pointer(row)) //nolint:gosec // the struct's type is the model's, whose offsets are the plan's
}

// ScanValue is like [Scan], for an addressable struct whose type is known only at run time.
func ScanValue(p *Plan, values [][]byte, row reflect.Value) bool {
	if row.Type() != p.model.typ || len(values) < len(p.columns) {
		return false
	}
	return p.scan(values, row.Addr().UnsafePointer())
}

func (p *Plan) scan(values [][]byte, row unsafe.Pointer) bool {
	p.arena.prepare(p, values)
	for i := range p.columns {
		c := &p.columns[i]
		field := unsafe.Add(row, c.offset)
		if c.decode != nil && c.decode(values[i], field, &p.arena) {
			continue
		}
		if c.scan == nil || c.scan.Scan(values[i], reflect.NewAt(c.typ, field).Interface()) != nil {
			return false
		}
	}
	return true
}
