package repo

import (
	"context"
	"reflect"
)

// CreateMany inserts all rows or none, and sets every column of each element to what the database stored. The result is that
// of [Repository.Create] for each row, in far fewer round trips.
//
// Few rows are sent as one pipelined statement each. From 256 rows on (see [WithStagingThreshold]) the rows are copied into a
// temporary table and inserted from there by one statement. That requires two things. All rows
// leave the same columns to the database. And each row differs from the others in its key or in the values that are sent. PostgreSQL
// doesn't promise the order of RETURNING, so returned rows are matched by value. Otherwise, and where the login user
// can't create temporary tables, the rows are sent as pipelined statements.
//
// Several rows are written in the transaction of ctx, or in a new one. Rows whose keys are known are sent in the order
// of their keys, so concurrent calls don't deadlock. If nothing has to come back, [Repository.CopyMany] is the fastest way.
//
// Errors are [*InvalidError], also for a duplicate key, [*ConstraintError] and [*RowError]. Each has the index of the row.
// Nothing is written then, and the rows are unchanged except for keys made by [WithKeys].
func (r *Repository[T, K]) CreateMany(ctx context.Context, rows []T, opts ...CreateOption) error {
	ctx = r.named(ctx, "CreateMany")
	zero, err := r.d.createOptions(opts)
	if err != nil || len(rows) == 0 {
		return err
	}
	w, err := newBulk(ctx, &r.base, "create", rows)
	if err != nil {
		return err
	}
	var byKey *ordering
	if w.makeKeys() {
		byKey = newOrdering(w.values, r.d.columnsAt(r.d.key))
		if err := byKey.checkDuplicates(r.d.label, "key"); err != nil {
			return err
		}
	}
	groups := w.groups(w.positions(byKey), func(layout []byte, v reflect.Value) []byte { return zero.fill(r.d.insertLayout(layout, v)) })
	rowByRow := func(ctx context.Context) error { return w.sendInTx(ctx, w.inserts(groups)) }
	if len(groups) > 1 || !r.d.stages(len(rows)) {
		return rowByRow(ctx)
	}
	if w.matcher = byKey; w.matcher == nil {
		w.matcher = newOrdering(w.values, w.comparableColumns(groups[0].layout))
	}
	if !w.matcher.isUnique() {
		return rowByRow(ctx)
	}
	staged := func(ctx context.Context) error { return w.stagedInsert(ctx, groups[0]) }
	return w.stagedOrRowByRow(ctx, staged, rowByRow)
}

// makeKeys sets zero keys that the application makes (see [WithKeys]) and reports whether all keys are known afterwards.
func (w *bulkWrite) makeKeys() bool {
	d, known := w.repository.d, true
	for _, position := range d.key {
		c := &d.columns[position]
		if !c.written() {
			return false
		}
		if d.newKey == nil && !c.roles.is(roleDefault) {
			continue
		}
		for i := range w.values.Len() {
			f := w.values.Index(i).FieldByIndex(c.index)
			switch {
			case !f.IsZero():
			case d.newKey != nil:
				f.Set(d.newKey.make())
			default:
				known = false
			}
		}
	}
	return known
}

// inserts returns one insert statement per row.
func (w *bulkWrite) inserts(groups []layoutGroup) []bulkStatement {
	statements := make([]bulkStatement, 0, w.values.Len())
	for _, g := range groups {
		for _, position := range g.rows {
			statements = append(statements, w.insertOf(g.layout, position))
		}
	}
	return statements
}

// comparableColumns returns the columns by which returned rows can be matched to the rows that were sent: those that are sent
// and come back unchanged.
func (w *bulkWrite) comparableColumns(layout []byte) []*column {
	var columns []*column
	for i := range w.repository.d.columns {
		c := &w.repository.d.columns[i]
		if layout[i] == fromField && c.orderable() && c.typ.Kind() != reflect.Pointer && !c.roles.is(roleVersion) {
			columns = append(columns, c)
		}
	}
	return columns
}
