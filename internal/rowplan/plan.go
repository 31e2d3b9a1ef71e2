// Package rowplan reads rows of a result straight into structs. What a struct's fields are is compiled once, how its columns
// get there is worked out once for each connection and result description and kept with the connection, and a row then is a
// loop over its columns: the place of the field by its offset, and a decoder that writes there.
//
// # What decides
//
// How a column is read is pgx's decision: the plan asks the connection's type map as Rows.Scan does, so that codecs that
// somebody has registered, Scanners of a field's type and wrappers come to their right. Only when what the map chooses is to the letter
// what pgx (or package pgcodec) chooses for a common pair of types, a decoder of our own does the same work without an
// interface value. Whatever a decoder doesn't take (a NULL, a value out of range, a wrong length) goes to pgx's plan, and when
// that fails the row is left to Rows.Scan, whose errors people know.
//
// # What is checked on every use, and what is trusted
//
// On every use: the number of columns, the OID and format of each, the identity of the types that the map has registered
// for these OIDs, and of its list of wrappers. Trusted is what pgx's documentation forbids to change: a registered Type
// isn't mutated, nor is the list of wrappers in place. One result is read at a time on a connection.
package rowplan

import (
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Model is a struct type and the fields that hold columns. It doesn't change and is safe for concurrent use.
type Model struct {
	typ    reflect.Type
	fields []field
}

type field struct {
	offset uintptr
	typ    reflect.Type
}

// NewModel compiles a struct type. The paths lead to the fields of its columns, in the order in which results have them. It
// returns nil when one of them leads through a pointer: where such a field is can't be known before there is a row.
func NewModel(typ reflect.Type, paths [][]int) *Model {
	m := &Model{typ: typ, fields: make([]field, len(paths))}
	for i, path := range paths {
		at := typ
		for _, step := range path {
			if at.Kind() == reflect.Pointer {
				return nil
			}
			f := at.Field(step)
			m.fields[i].offset += f.Offset
			at = f.Type
		}
		m.fields[i].typ = at
	}
	return m
}

// Plan reads the rows of one result into structs of a model. It belongs to a connection, and is used by whoever reads from it.
type Plan struct {
	model   *Model
	columns []column
	known   []known
	// wrappers is the type map's list as it was.
	wrappers []pgtype.TryWrapScanPlanFunc
	arena    arena
}

// column is how one column gets into its field.
type column struct {
	decode decoder // nil: pgx's plan does it
	offset uintptr
	oid    uint32
	format int16
	shares bool // decode takes memory from texts
	typ    reflect.Type
	scan   pgtype.ScanPlan
}

// known is what the type map said about a type when the plan was made.
type known struct {
	oid    uint32
	target any // asked for by value where the map doesn't know the OID
	typ    *pgtype.Type
}

func (k *known) holds(m *pgtype.Map) bool {
	typ, ok := m.TypeForOID(k.oid)
	if !ok && k.target != nil {
		typ, _ = m.TypeForValue(k.target)
	}
	return typ == k.typ
}

// cacheKey is where a connection has its plans.
const cacheKey = "github.com/rdsfx-go/rdsfx/internal/rowplan"

// maxPlans is how many plans a connection keeps. A program has one model for each table; that there be so many has another
// reason, and then it is better to begin anew than to grow.
const maxPlans = 512

type cache map[*Model]*Plan

// For returns the plan for a result whose first columns are the model's, with so many others behind them. It is nil when
// there can be none. The result must have its description: a row has been read, or Next has returned false.
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
	p := m.plan(types, descriptions)
	plans[m] = p
	return p
}

// begin prepares for a result.
func (p *Plan) begin() { p.arena = arena{result: p.arena.result + 1} }

// fits reports whether the plan may be used for a result.
func (p *Plan) fits(types *pgtype.Map, descriptions []pgconn.FieldDescription) bool {
	return p.describes(descriptions) && p.holds(types)
}

// describes reports whether the columns of a result are the plan's.
func (p *Plan) describes(descriptions []pgconn.FieldDescription) bool {
	for i := range p.columns {
		if d := &descriptions[i]; d.DataTypeOID != p.columns[i].oid || d.Format != p.columns[i].format {
			return false
		}
	}
	return true
}

// holds reports whether the type map says what it said when the plan was made.
func (p *Plan) holds(types *pgtype.Map) bool {
	for i := range p.known {
		if !p.known[i].holds(types) {
			return false
		}
	}
	return same(types.TryWrapScanPlanFuncs, p.wrappers)
}

// same reports whether two lists are one.
func same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

func (m *Model) plan(types *pgtype.Map, descriptions []pgconn.FieldDescription) *Plan {
	p := &Plan{model: m, columns: make([]column, len(m.fields)), wrappers: types.TryWrapScanPlanFuncs}
	seen := map[uint32]bool{}
	for i, f := range m.fields {
		oid, format, target := descriptions[i].DataTypeOID, descriptions[i].Format, reflect.New(f.typ).Interface()
		c := column{offset: f.offset, oid: oid, format: format, typ: f.typ, scan: types.PlanScan(oid, format, target)}
		c.decode, c.shares = decoderFor(types, f.typ, oid, format)
		p.columns[i] = c
		if typ, ok := types.TypeForOID(oid); !ok {
			for _, target := range targets(f.typ) {
				typ, _ = types.TypeForValue(target)
				p.known = append(p.known, known{oid: oid, target: target, typ: typ})
			}
		} else if !seen[oid] {
			seen[oid] = true
			p.known = append(p.known, known{oid: oid, typ: typ})
		}
	}
	return p
}

// Direct returns how many of the columns are read without pgx's plans.
func (p *Plan) Direct() int {
	n := 0
	for i := range p.columns {
		if p.columns[i].decode != nil {
			n++
		}
	}
	return n
}

// Scan reads the row's values into a struct of the plan's model, all of whose columns are zero. When it returns false
// something was in the way, the struct may be filled in part, and pgx's Scan has the word. values need to stay as they are
// only during the call.
func Scan[T any](p *Plan, values [][]byte, row *T) bool {
	if reflect.TypeFor[T]() != p.model.typ || len(values) < len(p.columns) {
		return false
	}
	return p.scan(values, unsafe.Pointer(row)) //nolint:gosec // the struct's type is the model's, whose offsets are the plan's
}

// ScanValue is Scan for a struct, which can be addressed, of a type that is known at run time only.
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
		if c.scan.Scan(values[i], reflect.NewAt(c.typ, field).Interface()) != nil {
			return false
		}
	}
	return true
}
