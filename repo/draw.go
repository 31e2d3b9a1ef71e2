package repo

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// This file asks the database beforehand for the values that it would give columns that are left to it, so that the rows can
// be copied and nothing has to come back.

// drawsSQL gives, for the columns that are named in $2, the expressions that draw their values: those of defaults that depend
// on nothing but a sequence, the time or chance. It has NULL for others, for the server may have to be in the middle of an
// INSERT to evaluate them, and for columns that the role may not write or whose sequence it may not use by itself.
const drawsSQL = `array(
		select '(' || case when a.attidentity <> '' then 'nextval(' || quote_literal(s.path) || '::regclass)' else x.text end || ')::' ||
			format_type(a.atttypid, null)
		from unnest($2::text[]) with ordinality named (name, place)
		left join (pg_attribute a join pg_type t on t.oid = a.atttypid and t.typtype in ('b', 'e'))
			on a.attrelid = c.oid and a.attname = named.name and a.attgenerated = '' and has_column_privilege(c.oid, a.attnum, 'INSERT')
		left join lateral (
			select pg_get_expr(e.adbin, e.adrelid) as text from pg_attrdef e where e.adrelid = c.oid and e.adnum = a.attnum and not exists (
				select from pg_depend b where b.classid = 'pg_attrdef'::regclass and b.objid = e.oid and b.refclassid = 'pg_proc'::regclass)
		) x on x.text ~ $3
		left join lateral (
			select pg_get_serial_sequence(c.oid::regclass::text, a.attname) as path where a.attidentity <> ''
		) s on has_sequence_privilege(s.path, 'USAGE')
		order by named.place)`

// drawable are the defaults that are drawn, as the server writes them.
const drawable = `^(gen_random_uuid\(\)|uuidv[47]\(\)|nextval\('[^']+'::regclass\)|now\(\)|CURRENT_TIMESTAMP|true|false|[0-9.]+|` +
	`'[^'\\]*'::[a-z ]+(\[\])?)$`

// drawn are the columns that an insert leaves to the database.
type drawn struct {
	names   []string
	columns []*column
	shape   *shape // by which they are read
}

// drawnOf returns what an insert of this form leaves to the database, which is described once.
func (d *descriptor) drawnOf(form []byte) *drawn {
	if known, ok := d.texts.drawn.Load(string(form)); ok {
		return known.(*drawn) //nolint:forcetypeassert // nothing else is stored
	}
	fresh := &drawn{names: []string{}, shape: &shape{typ: d.typ}}
	var paths [][]int
	for i, take := range form {
		if take != takeDefault {
			continue
		}
		c := &d.columns[i]
		fresh.names, fresh.columns, paths = append(fresh.names, c.name), append(fresh.columns, c), append(paths, c.index)
		fresh.shape.columns = append(fresh.shape.columns, *c)
	}
	fresh.shape.plans = rowplan.NewModel(d.typ, paths)
	known, _ := d.texts.drawn.LoadOrStore(string(form), fresh)
	return known.(*drawn) //nolint:forcetypeassert // nothing else is stored
}

// draw returns copies of the rows that have what the expressions have given them.
func (w *bulk[T, K]) draw(ctx context.Context, drawn *drawn, expressions []*string) ([]T, error) {
	texts := make([]string, len(expressions))
	for i := range texts {
		texts[i] = *expressions[i]
	}
	sql := "select " + strings.Join(texts, ", ") + " from generate_series(1, $1::bigint)"
	fresh := make([]T, len(w.rows))
	values := reflect.ValueOf(fresh)
	err := w.repository.query(ctx, sql, []any{len(w.rows)}, func(rows pgx.Rows) error {
		defer rows.Close()
		copy(fresh, w.rows)
		reader, scratch := reader[T]{shape: drawn.shape}, new(T)
		from := reflect.ValueOf(scratch).Elem()
		for i := range fresh {
			if !rows.Next() {
				return errors.Join(rows.Err(), errFewDrawn)
			}
			from.SetZero()
			if err := reader.read(rows, scratch); err != nil {
				return err
			}
			into := values.Index(i)
			for _, c := range drawn.columns {
				into.FieldByIndex(c.index).Set(from.FieldByIndex(c.index))
			}
		}
		rows.Close()
		return rows.Err()
	})
	return fresh, w.repository.wrap(w.op, err)
}

// errFewDrawn would be the server's fault.
var errFewDrawn = errors.New("the database gave fewer values than rows")
