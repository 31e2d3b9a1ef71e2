package repo

import (
	"context"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

// UpdateMany updates all rows or none. The result is that of [Repository.Update] for each row. It uses the transaction of
// ctx, or a new one. Rows are updated in the order of the keys, so concurrent calls don't deadlock. Few rows are sent as pipelined
// statements.
// From 256 rows on (see [WithStagingThreshold]) they are copied into a temporary table and updated from there by one statement.
//
// After an error nothing is written. Errors are:
//
//   - [*RowError] with [ErrNotFound] or a [*StaleError]
//   - [*InvalidError], also for a duplicate key
//   - [*ConstraintError] and [*RowError] with the index of the row that the database refused
func (r *Repository[T, K]) UpdateMany(ctx context.Context, rows []T) error {
	ctx = r.named(ctx, "UpdateMany")
	if len(rows) == 0 {
		return nil
	}
	if r.d.statements.update == "" {
		return &queryError{"update " + r.d.label + ": the model has no columns besides its key"}
	}
	w, err := newBulk(ctx, &r.base, "update", rows)
	if err != nil {
		return err
	}
	w.matcher = newOrdering(w.values, r.d.columnsAt(r.d.key))
	if err := w.matcher.checkDuplicates(r.d.label, "key"); err != nil {
		return err
	}
	if !r.d.comparesAsServer(r.d.key) {
		w.distinct = "key"
	}
	w.onMissing = func(ctx context.Context, absent []int) error {
		return &RowError{Table: r.d.label, Index: absent[0], err: r.notUpdatedError(ctx, w.values.Index(absent[0]))}
	}
	singly := func(ctx context.Context) error {
		statements := make([]bulkStatement, 0, len(rows))
		columns := r.d.columnsAt(slices.Concat(r.d.statements.updateColumns, r.d.key))
		for _, i := range w.positions(w.matcher) {
			statements = append(statements, bulkStatement{
				sql: r.d.updateText(w.live), row: i, args: len(r.d.statements.updateColumns) + len(r.d.key) + 2, //nolint:mnd // version and time
				appendArgs: func(_ []any, position int) []any { return r.d.updateArgs(w.live, w.values.Index(position)) },
				columns:    columns,
			})
		}
		return w.sendInTx(ctx, statements)
	}
	if !w.matcher.isUnique() || !r.d.stages(len(rows)) {
		return singly(ctx)
	}
	return w.stagedOrRowByRow(ctx, w.stagedUpdate, singly)
}

// UpsertMany upserts all rows or none and returns what it did with each. The result is that of [Repository.Upsert] for each row.
// It uses the transaction of ctx, or a new one. Rows are upserted in the order of the conflict columns, so concurrent calls don't
// deadlock. Few rows are sent as pipelined statements. From 256 rows on (see [WithStagingThreshold]) they are copied into a
// temporary table. One statement upserts them from there, if all rows leave the same columns to the database.
//
// After an error nothing is written. Errors are:
//
//   - those of Upsert
//   - [*RowError] with [ErrDeleted]
//   - [*InvalidError], also for two rows with the same conflict columns
//   - [*ConstraintError] and [*RowError] with the index of the row that the database refused
func (r *Repository[T, K]) UpsertMany(ctx context.Context, rows []T, opts ...UpsertOption) ([]UpsertResult, error) {
	ctx = r.named(ctx, "UpsertMany")
	given, err := r.d.newUpsert(opts)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	u, err := r.resolveTarget(ctx, given)
	if err != nil {
		return nil, r.wrap("upsert", err)
	}
	w, err := newBulk(ctx, &r.base, "upsert", rows)
	if err != nil {
		return nil, err
	}
	target, err := r.targetColumns(ctx, u)
	if err != nil {
		return nil, err
	}
	w.matcher = newOrdering(w.values, r.d.columnsAt(target))
	if err := w.matcher.checkDuplicates(r.d.label, "conflict columns"); err != nil {
		return nil, err
	}
	if !r.d.comparesAsServer(target) {
		w.distinct = "conflict columns"
	}
	layoutOf := func(layout []byte, v reflect.Value) []byte { return u.zero.fill(r.d.upsertLayout(layout, v)) }
	groups := w.groups(w.positions(w.matcher), layoutOf)
	for _, g := range groups {
		if err := u.check(r.d, g.layout); err != nil {
			return nil, err
		}
	}
	w.inserted, w.unchanged = make([]bool, len(rows)), make([]bool, len(rows))
	w.onMissing = func(ctx context.Context, absent []int) error { return w.readExisting(ctx, u, target, absent) }
	singly := func(ctx context.Context) error { return w.sendInTx(ctx, w.upserts(u, groups)) }
	if len(groups) == 1 && w.matcher.isUnique() && r.d.stages(len(rows)) {
		staged := func(ctx context.Context) error { return w.stagedUpsert(ctx, u, target, groups[0]) }
		err = w.stagedOrRowByRow(ctx, staged, singly)
	} else {
		err = singly(ctx)
	}
	if err != nil {
		return nil, err
	}
	return w.upsertResults(), nil
}

// upsertResults returns what an upsert did with each row.
func (w *bulkWrite) upsertResults() []UpsertResult {
	results := make([]UpsertResult, w.values.Len())
	for i := range results {
		if results[i] = Unchanged; !w.unchanged[i] {
			results[i] = upsertResult(w.inserted[i])
		}
	}
	return results
}

// upserts returns one upsert statement per row, sorted by the conflict columns.
func (w *bulkWrite) upserts(u *upsert, groups []layoutGroup) []bulkStatement {
	d := w.repository.d
	layouts := make([][]byte, w.values.Len())
	for _, g := range groups {
		for _, i := range g.rows {
			layouts[i] = g.layout
		}
	}
	statements := make([]bulkStatement, 0, w.values.Len())
	for _, i := range w.positions(w.matcher) {
		s := w.insertOf(layouts[i], i)
		s.sql = u.text(d, w.live, layouts[i])
		statements = append(statements, s)
	}
	return statements
}

// DeleteMany deletes the rows with these keys and returns how many existed. With a softdelete column it marks them instead. A
// missing row is no error. Some thousand keys are sent in one round trip. More are sent in the transaction of ctx, or in a
// new one. Keys are sorted, so concurrent calls don't deadlock. After a [*ConstraintError] or a [*RowError], which have the key's
// index, nothing is deleted.
func (r *Repository[T, K]) DeleteMany(ctx context.Context, keys []K) (int64, error) {
	ctx = r.named(ctx, "DeleteMany")
	if len(keys) == 0 {
		return 0, nil
	}
	positions := make([]int, len(keys))
	for i := range positions {
		positions[i] = i
	}
	if sorted := newOrdering(reflect.ValueOf(keys), r.d.keyFields()); sorted != nil {
		positions = sorted.rows
	}
	size := maxBatchArgs / (len(r.d.key) + 1)
	if len(keys) <= size {
		deleted, err := r.deleteBatch(ctx, keys, positions) // one batch is atomic by itself
		return deleted, r.explainDelete(ctx, keys, err)
	}
	var deleted int64
	err := r.tx.Do(ctx, func(ctx context.Context) error {
		deleted = 0
		for batch := range slices.Chunk(positions, size) {
			n, err := r.deleteBatch(ctx, keys, batch)
			if err != nil {
				return err
			}
			deleted += n
		}
		return nil
	})
	if err != nil {
		return 0, r.explainDelete(ctx, keys, err)
	}
	return deleted, nil
}

// explainDelete names the key that couldn't be encoded, if that is why nothing was deleted.
func (r *Repository[T, K]) explainDelete(ctx context.Context, keys []K, err error) error {
	sql := r.d.statements.deleteRow
	position, value := explainBatch(ctx, r.tx, len(keys), func(position int) (*descriptor, batchStatement) {
		args := r.d.clockArgs(r.keyArgs(nil, keys[position]), r.d.softDelete >= 0 && r.d.usesClock(true))
		return r.d, batchStatement{sql: sql, args: args}
	}, err)
	if value == nil {
		return err
	}
	return r.d.wrapRow("delete", r.d.nameParameter(value, sql), position, "")
}

// keyFields returns the columns of the key, with their fields in K.
func (d *descriptor) keyFields() []*column {
	columns := make([]*column, len(d.key))
	for i, position := range d.key {
		c := d.columns[position]
		if c.index = nil; d.keyIndex != nil {
			c.index = d.keyIndex[i]
		}
		columns[i] = &c
	}
	return columns
}

func (r *Repository[T, K]) deleteBatch(ctx context.Context, keys []K, positions []int) (int64, error) {
	batch, describe := &pgx.Batch{}, newDescriber(r.untyped)
	for _, i := range positions {
		describe.queue(batch, r.d.statements.deleteRow, r.d.clockArgs(r.keyArgs(nil, keys[i]), r.d.softDelete >= 0 && r.d.usesClock(true)))
	}
	var deleted int64
	results := r.tx.SendBatch(ctx, batch)
	for number := range positions {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close() // the error that matters is the first
			i := positions[unsent(number, err)]
			if unencodable(err) {
				return 0, err //nolint:wrapcheck // see explainDelete
			}
			if asValueError(err) == nil {
				return 0, r.d.wrap("delete", err, i)
			}
			return 0, r.d.wrapRow("delete", r.d.nameParameter(err, r.d.statements.deleteRow), i, "")
		}
		deleted += tag.RowsAffected()
	}
	if err := results.Close(); err != nil { // a constraint that is checked at the end
		return 0, r.wrap("delete", err)
	}
	return deleted, nil
}
