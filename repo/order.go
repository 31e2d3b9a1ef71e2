package repo

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
)

// ordering sorts the rows of a bulk write by some columns and matches returned rows to them. All calls sort alike, so concurrent
// ones lock rows in the same order and don't deadlock.
type ordering struct {
	columns []*column
	keys    []sortKey // one per row and column
	rows    []int     // positions of the rows, sorted
	// duplicate is the position of a row with the same values as the row at original; -1 if there is none.
	duplicate, original int
	// hasNulls means that a row has a NULL in these columns. Such rows can't be matched.
	hasNulls bool
}

// sortKey is the value by which a field is sorted.
type sortKey struct {
	null   bool
	hi, lo uint64
	text   string
}

func (a sortKey) compare(b sortKey) int {
	if a.hi != b.hi {
		return cmp.Compare(a.hi, b.hi)
	}
	if a.lo != b.lo {
		return cmp.Compare(a.lo, b.lo)
	}
	if c := cmp.Compare(a.text, b.text); c != 0 || a.null == b.null {
		return c
	}
	if a.null {
		return 1
	}
	return -1
}

// orderable reports whether the values of a column can be sorted and come back from the database unchanged.
func (c *column) orderable() bool {
	typ := c.typ
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return !c.indirect && !c.roles.is(roleJSON) && exact(typ)
}

// exact reports whether values of the type come back from the database unchanged.
func exact(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	default:
		return isUUID(typ)
	}
}

// sortKeyOf returns the sort key of a field of an orderable column. The field must be addressable.
func sortKeyOf(f reflect.Value) sortKey {
	if f.Kind() == reflect.Pointer {
		if f.IsNil() {
			return sortKey{null: true, hi: math.MaxUint64}
		}
		f = f.Elem()
	}
	switch {
	case f.CanInt():
		return sortKey{hi: uint64(f.Int()) ^ 1<<63} //nolint:gosec // keeps the order
	case f.CanUint():
		return sortKey{hi: f.Uint()}
	case f.Kind() == reflect.String:
		return sortKey{text: f.String()}
	case f.Kind() == reflect.Bool && f.Bool():
		return sortKey{hi: 1}
	case f.Kind() == reflect.Bool:
		return sortKey{}
	case isUUID(f.Type()):
		id := f.Bytes()
		return sortKey{hi: binary.BigEndian.Uint64(id), lo: binary.BigEndian.Uint64(id[8:])}
	}
	return sortKey{text: fmt.Sprint(f.Interface())}
}

// comparesAsServer reports whether the server finds values of these columns equal if and only if Go does. It compares texts, for
// example, by their collation and type, and in some indexes it finds NULLs equal.
func (d *descriptor) comparesAsServer(positions []int) bool {
	return len(positions) > 0 && !slices.ContainsFunc(positions, func(position int) bool {
		typ := d.columns[position].typ
		return typ.Kind() == reflect.String || !exact(typ)
	})
}

// newOrdering sorts rows, a slice of structs, by columns. It returns nil if there are no columns or one can't be sorted.
func newOrdering(rows reflect.Value, columns []*column) *ordering {
	if len(columns) == 0 || slices.ContainsFunc(columns, func(c *column) bool { return !c.orderable() }) {
		return nil
	}
	return orderRows(rows, columns)
}

// orderRows sorts rows, a slice of structs or of pointers to them, by columns of any type. The order of values of types that are not
// orderable means nothing, but values that were read from the same row are equal.
func orderRows(rows reflect.Value, columns []*column) *ordering {
	n := rows.Len()
	o := &ordering{columns: columns, keys: make([]sortKey, 0, n*len(columns)), rows: make([]int, n), duplicate: -1}
	for i := range n {
		o.rows[i] = i
		o.keys = o.keysOf(o.keys, reflect.Indirect(rows.Index(i)))
	}
	slices.SortFunc(o.rows, func(a, b int) int {
		return cmp.Or(slices.CompareFunc(o.keysAt(a), o.keysAt(b), sortKey.compare), cmp.Compare(a, b))
	})
	for i := range o.rows {
		if slices.ContainsFunc(o.keysAt(o.rows[i]), func(k sortKey) bool { return k.null }) {
			o.hasNulls = true // NULLs are distinct
			continue
		}
		if i > 0 && slices.Equal(o.keysAt(o.rows[i-1]), o.keysAt(o.rows[i])) {
			o.original, o.duplicate = o.rows[i-1], o.rows[i]
			break
		}
	}
	return o
}

func (o *ordering) keysOf(keys []sortKey, v reflect.Value) []sortKey {
	for _, c := range o.columns {
		f := v
		if c.index != nil { // otherwise v is a key of one column
			f = v.FieldByIndex(c.index)
		}
		keys = append(keys, sortKeyOf(f))
	}
	return keys
}

// keysAt returns the sort keys of a row.
func (o *ordering) keysAt(position int) []sortKey {
	return o.keys[position*len(o.columns) : (position+1)*len(o.columns)]
}

// isUnique reports whether each row differs from all others.
func (o *ordering) isUnique() bool { return o != nil && o.duplicate < 0 && !o.hasNulls }

// checkDuplicates returns an error if two rows have the same values.
func (o *ordering) checkDuplicates(table, what string) error {
	if o == nil || o.duplicate < 0 {
		return nil
	}
	return &InvalidError{Table: table, Index: o.duplicate, err: fmt.Errorf("it has the same %s as the row at index %d", what, o.original)}
}

// finder finds the rows of an ordering that match returned rows.
type finder struct {
	*ordering

	buf  []sortKey
	next int // position in rows of the most likely match
}

// find returns the position of the row with the same values as v in the ordering's columns.
func (f *finder) find(v reflect.Value) (int, bool) {
	f.buf = f.keysOf(f.buf[:0], v)
	if f.next < len(f.rows) && slices.Equal(f.keysAt(f.rows[f.next]), f.buf) {
		f.next++
		return f.rows[f.next-1], true
	}
	at, found := slices.BinarySearchFunc(f.rows, f.buf, func(position int, keys []sortKey) int {
		return slices.CompareFunc(f.keysAt(position), keys, sortKey.compare)
	})
	if !found {
		return 0, false
	}
	f.next = at + 1
	return f.rows[at], true
}
