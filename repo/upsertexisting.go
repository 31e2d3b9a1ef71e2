package repo

import (
	"context"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// existingRow reads the row that an upsert left alone. A soft-deleted one is ErrDeleted.
func (r *Repository[T, K]) existingRow(ctx context.Context, live *liveColumns, v reflect.Value, u *upsert) (*T, error) {
	if err := u.missingRowError(r.d); err != nil {
		return nil, err
	}
	target, err := r.targetColumns(ctx, u)
	if err != nil {
		return nil, err
	}
	b := u.existingQuery(r.d, live, target, v)
	row, err := r.one(ctx, b.sql.String(), b.args)
	if err != nil {
		return nil, err
	}
	return row, r.d.checkNotDeleted(reflect.ValueOf(row).Elem())
}

// missingRowError returns why an upsert returned no row, nil if the existing row has to be read.
func (u *upsert) missingRowError(d *descriptor) error {
	switch {
	case u.doNothing:
		return nil
	case d.softDelete < 0 || u.restoreDeleted:
		return ErrSuppressed
	}
	return ErrDeleted
}

// checkNotDeleted returns ErrDeleted for a soft-deleted row.
func (d *descriptor) checkNotDeleted(v reflect.Value) error {
	if d.softDelete >= 0 && !fieldIsZero(v, &d.columns[d.softDelete]) {
		return ErrDeleted
	}
	return nil
}

// nullsConflict is the condition that NULLs conflict in the table (PostgreSQL 15 and later). Before it, pg_index has no such
// column.
const nullsConflict = "exists (select from pg_catalog.pg_index i where i.indrelid = %s::regclass and " +
	"coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false))"

// existingQuery returns the statement that reads the existing row with which v conflicts. A NULL conflicts only under a unique index
// with NULLS NOT DISTINCT, which a view doesn't have itself.
func (u *upsert) existingQuery(d *descriptor, live *liveColumns, target []int, v reflect.Value) *builder {
	b := newBuilder(d, d.statements.selectFrom)
	separator := " where "
	for _, position := range target {
		c := &d.columns[position]
		if value := fieldArg(v, c); isNil(value) {
			if b.text(separator).text(c.ident).text(" is null"); !live.view {
				b.text(" and " + fmt.Sprintf(nullsConflict, d.tableLiteral()))
			}
		} else {
			b.text(separator).operand(c.name).text(" = ").arg(value)
		}
		separator = conjunction
	}
	for _, expression := range u.target.expressions {
		b.text(separator)
		u.target.writeEqual(b, live, v, expression)
		separator = conjunction
	}
	if u.target.predicate != "" {
		b.text(separator).fragment(u.target.predicate, nil, false)
	}
	return b
}

// targetColumns returns the positions of the conflict columns. Those of a constraint are read from the catalog once. There are
// none for a constraint that doesn't compare columns of the model, such as an exclusion constraint.
func (r *base) targetColumns(ctx context.Context, u *upsert) ([]int, error) {
	d, names := r.d, u.target.columns
	if u.target.isExpression {
		return nil, nil
	}
	if constraint := u.target.constraint; constraint != "" {
		known, ok := d.statements.constraints.Load(constraint)
		if !ok {
			found, err := Pluck[string](ctx, r.tx, `select a.attname from pg_constraint c
				join unnest(c.conkey) with ordinality k (number, place) on true
				join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number
				where c.conrelid = to_regclass($1) and c.conname = $2 and c.contype in ('p', 'u') order by k.place`, d.table, constraint)
			if err != nil {
				return nil, err
			}
			known, _ = d.statements.constraints.LoadOrStore(constraint, found)
		}
		names, _ = known.([]string)
	}
	target := make([]int, len(names))
	for i, name := range names {
		position, ok := d.byName[name]
		if !ok {
			target = nil
			break
		}
		target[i] = position
	}
	if len(target) == 0 && u.doNothing {
		return nil, &queryError{fmt.Sprintf("%s: constraint %q compares no columns of the model, so DoNothing can't find the existing row: "+
			"use OnConflict with the columns", d.label, u.target.constraint)}
	}
	return target, nil
}

// readExisting reads the rows that a bulk upsert left alone, in one round trip.
func (w *bulkWrite) readExisting(ctx context.Context, u *upsert, target, absent []int) error {
	d := w.repository.d
	if err := u.missingRowError(d); err != nil {
		return d.rowError(w.op, err, absent[0])
	}
	statements := make([]bulkStatement, len(absent))
	for i, position := range absent {
		b := u.existingQuery(d, w.live, target, w.values.Index(position))
		statements[i] = bulkStatement{
			sql: b.sql.String(), row: position, args: len(b.args), appendArgs: func([]any, int) []any { return b.args }, readsExisting: true,
		}
	}
	for _, batch := range batchesOf(statements) {
		if err := w.send(ctx, batch); err != nil {
			return err
		}
	}
	return w.checkExisting(absent)
}

// readExistingStaged is readExisting with one statement that finds all rows of the stage, which are those at positions.
func (w *bulkWrite) readExistingStaged(ctx context.Context, sql string, positions, absent []int) error {
	err := w.repository.query(ctx, sql, nil, func(rows pgx.Rows) error { return w.returned.readNumbered(rows, positions) })
	if err != nil {
		return w.repository.wrap(w.op, err)
	}
	return w.checkExisting(absent)
}

func (w *bulkWrite) checkExisting(absent []int) error {
	d := w.repository.d
	for _, position := range absent {
		row, ok := w.returned.at(position)
		if !ok {
			return d.rowError(w.op, ErrSuppressed, position)
		}
		if err := d.checkNotDeleted(row); err != nil {
			return d.rowError(w.op, err, position)
		}
		w.unchanged[position] = true
	}
	return nil
}
