package repo

import (
	"context"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// This file creates rows by COPY, by which nothing comes back: it is taken only where what is stored is known beforehand.

// copies reports whether rows of this form hold all that will be stored, or the database can be asked for it beforehand (see
// draw), as far as the model can say.
func (d *descriptor) copies(form []byte) bool {
	for i, take := range form {
		c := &d.columns[i]
		switch {
		case c.indirect:
			return false
		case !c.roles.is(roleJSON):
			if kindOf(c.typ) == nil {
				return false
			}
		case take == takeDefault || !plainJSON(c.typ, nil):
			return false
		}
	}
	return true
}

// copyKind says in which columns values of a Go type are stored as they are, and in which slices of them.
type copyKind struct{ columns, arrays []uint32 }

var copyKinds = map[reflect.Kind]copyKind{
	reflect.Bool: {[]uint32{pgtype.BoolOID}, []uint32{pgtype.BoolArrayOID}},
	reflect.Int: {
		[]uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID},
		[]uint32{pgtype.Int2ArrayOID, pgtype.Int4ArrayOID, pgtype.Int8ArrayOID},
	},
	reflect.Float32: {[]uint32{pgtype.Float4OID, pgtype.Float8OID}, []uint32{pgtype.Float4ArrayOID, pgtype.Float8ArrayOID}},
	reflect.Float64: {[]uint32{pgtype.Float8OID}, []uint32{pgtype.Float8ArrayOID}},
	reflect.String:  {[]uint32{pgtype.TextOID, pgtype.VarcharOID}, []uint32{pgtype.TextArrayOID, pgtype.VarcharArrayOID}},
}

// kindOf returns the types of columns that store values of a Go type as they are; none when they aren't known.
func kindOf(typ reflect.Type) []uint32 {
	switch typ {
	case reflect.TypeFor[[]byte]():
		return []uint32{pgtype.ByteaOID}
	case reflect.TypeFor[json.RawMessage]():
		return []uint32{pgtype.JSONBOID, pgtype.JSONOID} // see storedAsIs
	}
	if typ.Kind() == reflect.Slice {
		return scalarKind(typ.Elem()).arrays
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return scalarKind(typ).columns
}

func scalarKind(typ reflect.Type) copyKind {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return copyKind{columns: []uint32{pgtype.TimestamptzOID}}
	case isUUID(typ):
		return copyKind{[]uint32{pgtype.UUIDOID}, []uint32{pgtype.UUIDArrayOID}}
	case typ.PkgPath() != "" && reflect.PointerTo(typ).NumMethod() > 0:
		return copyKind{} // a method may have a say in what is sent, or in what is made of what comes back
	}
	switch kind := typ.Kind(); kind {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return copyKinds[reflect.Int]
	default:
		return copyKinds[kind]
	}
}

// ownJSON reports whether a type has a say in its JSON.
func ownJSON(typ reflect.Type) bool {
	pointer := reflect.PointerTo(typ)
	return slices.ContainsFunc([]reflect.Type{
		reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](),
		reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	}, pointer.Implements)
}

// plainJSON reports whether a value of the type is the same when it comes back from JSON.
func plainJSON(typ reflect.Type, above []reflect.Type) bool {
	if slices.Contains(above, typ) || ownJSON(typ) {
		return false
	}
	above = append(above, typ)
	switch kind := typ.Kind(); kind {
	case reflect.Pointer, reflect.Slice:
		inner := typ.Elem()
		return inner.Kind() != reflect.Pointer && inner.Kind() != reflect.Uint8 && plainJSON(inner, above)
	case reflect.Map:
		return typ.Key().Kind() == reflect.String && !ownJSON(typ.Key()) && plainJSON(typ.Elem(), above)
	case reflect.Struct:
		return plainFields(typ, above)
	default:
		return kind == reflect.Bool || kind == reflect.String || kind >= reflect.Int && kind <= reflect.Uint32 && kind != reflect.Uint
	}
}

func plainFields(typ reflect.Type, above []reflect.Type) bool {
	for f := range typ.Fields() {
		_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous || options != "" || f.Tag.Get("json") == "-" || !plainJSON(f.Type, above) {
			return false
		}
	}
	return true
}

// probe returns the statement that looks whether the table stores rows as they are: an ordinary one, without triggers that
// could change or drop a row, rules or row security. It also tells the time and how to draw the columns that are named in $2,
// and the columns behind that their types.
func (d *descriptor) probe() string {
	return `select now(), c.relkind = any ('{r,p}') and not c.relhasrules and not row_security_active(c.oid) and not exists (
		select from pg_trigger g where g.tgrelid in (select c.oid union select relid from pg_partition_tree(c.oid))
			and not g.tgisinternal and g.tgtype & 7 = 7 and g.tgenabled <> 'D'), ` + drawsSQL + `, r.*
	from pg_class c left join (select ` + d.texts.list + " from " + d.table + " limit 0) r on true where c.oid = to_regclass($1)"
}

// probed is what the probe has told.
type probed struct {
	now   time.Time
	fits  bool
	draws []*string // expressions that draw columns, nil for one that can't be
}

// copyIn copies rows if they are stored as they are; done tells whether they were.
func (w *bulk[T, K]) copyIn(ctx context.Context, g formGroup) (done bool, err error) {
	r := w.repository
	drawn := r.d.drawnOf(g.form)
	found, err := w.look(ctx, drawn)
	if err != nil || !found.fits {
		return false, err
	}
	now := found.now
	if r.d.clock != nil {
		now = r.d.now().In(now.Location())
	}
	rows := w.rows
	if len(drawn.columns) > 0 {
		if rows, err = w.draw(ctx, drawn, found.draws); err != nil {
			return false, err
		}
	}
	values := reflect.ValueOf(rows)
	complete := func(row reflect.Value) { r.d.fill(row, now) }
	source := &sliceSource{rows: values, positions: g.rows, row: reflect.New(r.d.typ).Elem(), complete: complete}
	columns := make([]*column, len(r.d.columns))
	for i := range columns {
		columns[i] = &r.d.columns[i]
	}
	if _, err := copyRows(ctx, r.tx, r.d.path, columns, source.next); err != nil {
		return false, r.d.wrapCopy(w.op, err, source.position, columns)
	}
	for i := range rows {
		row := values.Index(i)
		complete(row)
		r.d.settleTimes(row, now.Location())
	}
	if len(drawn.columns) > 0 {
		copy(w.rows, rows)
	}
	return true, nil
}

// look sends the probe.
func (w *bulk[T, K]) look(ctx context.Context, drawn *drawn) (found probed, err error) {
	d := w.repository.d
	err = w.repository.query(ctx, d.texts.probe, []any{d.table, drawn.names, drawable}, func(rows pgx.Rows) error {
		defer rows.Close()
		if !rows.Next() {
			return rows.Err()
		}
		const own = 3 // columns of the probe's
		fields, types := slices.Clone(rows.FieldDescriptions()[own:]), rows.Conn().TypeMap()
		values := make([]any, len(fields)+own)
		values[0], values[1], values[2] = &found.now, &found.fits, &found.draws
		if err := rows.Scan(values...); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		found.fits = found.fits && !slices.Contains(found.draws, nil) && w.keeps(fields, types)
		rows.Close()
		return rows.Err()
	})
	return found, w.repository.wrap(w.op, err)
}

// keeps reports whether columns of these types keep the rows' values as they are.
func (w *bulk[T, K]) keeps(fields []pgconn.FieldDescription, types *pgtype.Map) bool {
	d := w.repository.d
	for i := range d.columns {
		c, field := &d.columns[i], &fields[i]
		if c.roles.is(roleJSON) {
			if field.DataTypeOID != pgtype.JSONBOID && field.DataTypeOID != pgtype.JSONOID {
				return false
			}
			continue
		}
		if !slices.Contains(kindOf(c.typ), field.DataTypeOID) && (c.typ.Kind() != reflect.String || !isEnum(types, field.DataTypeOID)) {
			return false
		}
		// A length makes the server cut off blanks that are too many, a precision makes it round.
		if field.TypeModifier >= 0 && !w.keepsLength(c) {
			return false
		}
		if c.typ == reflect.TypeFor[json.RawMessage]() && !w.keepsDocuments(c) {
			return false
		}
	}
	return true
}

// isEnum reports whether the driver knows the type as an enum, whose values are text that stays as it is.
func isEnum(types *pgtype.Map, oid uint32) bool {
	typ, ok := types.TypeForOID(oid)
	if !ok {
		return false
	}
	_, ok = typ.Codec.(*pgtype.EnumCodec)
	return ok
}

// keepsLength reports whether a column of texts has none that ends in a blank.
func (w *bulk[T, K]) keepsLength(c *column) bool {
	if c.typ.Kind() != reflect.String && (c.typ.Kind() != reflect.Pointer || c.typ.Elem().Kind() != reflect.String) {
		return false
	}
	for i := range w.rows {
		f := reflect.Indirect(w.values.Index(i).FieldByIndex(c.index))
		if f.IsValid() && strings.HasSuffix(f.String(), " ") {
			return false
		}
	}
	return true
}

// keepsDocuments reports whether all documents in a column come back to the letter.
func (w *bulk[T, K]) keepsDocuments(c *column) bool {
	for i := range w.rows {
		if document := w.values.Index(i).FieldByIndex(c.index).Bytes(); document != nil && !storedAsIs(document) {
			return false
		}
	}
	return true
}

// settleTimes makes times what they are when they are read: without what is less than a microsecond, in the location in
// which the driver gives times.
func (d *descriptor) settleTimes(v reflect.Value, in *time.Location) {
	for i := range d.columns {
		switch c := &d.columns[i]; c.typ {
		case reflect.TypeFor[time.Time]():
			at := v.FieldByIndex(c.index).Addr().Interface().(*time.Time) //nolint:forcetypeassert // it is this type
			*at = settled(*at, in)
		case reflect.TypeFor[*time.Time]():
			if at := v.FieldByIndex(c.index).Addr().Interface().(**time.Time); *at != nil { //nolint:forcetypeassert // it is this type
				fresh := settled(**at, in)
				*at = &fresh
			}
		}
	}
}

func settled(at time.Time, in *time.Location) time.Time { return at.Truncate(time.Microsecond).In(in) }
