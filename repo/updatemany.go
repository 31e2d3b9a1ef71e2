package repo

import (
	"context"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

// UpdateMany writes the rows, any number of them: all or none. It is [Repository.Update] for each, in a transaction (that of
// ctx, or one of its own) and in the order of their keys so that concurrent calls don't deadlock. Few rows are a statement
// each, some thousand of which travel in one round trip; from 256 rows on (see [WithStagingThreshold]) they are copied into a temp table
// and written from there by one statement.
//
// Errors: [*RowError] with [ErrNotFound] or a [*StaleError]; [*InvalidError], also for a key that occurs twice;
// [*ConstraintError] and [*RowError] with the index of the row that the database refused. Nothing has been written then.
func (r *Repository[T, K]) UpdateMany(ctx context.Context, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	if r.d.statements.update == "" {
		return &queryError{"update " + r.d.label + ": the model has nothing but its key"}
	}
	w, err := r.newBulk(ctx, "update", rows)
	if err != nil {
		return err
	}
	w.matcher = newOrdering(w.values, r.d.columnsAt(r.d.key))
	if err := w.matcher.checkDuplicates(r.d.label, "key"); err != nil {
		return err
	}
	w.onMissing = func(ctx context.Context, absent []int) error {
		return &RowError{Table: r.d.label, Index: absent[0], err: r.notUpdatedError(ctx, w.values.Index(absent[0]))}
	}
	singly := func(ctx context.Context) error {
		statements := make([]bulkStatement, 0, len(rows))
		columns := r.d.columnsAt(slices.Concat(r.d.statements.updateColumns, r.d.key))
		for _, i := range w.positions(w.matcher) {
			statements = append(statements, bulkStatement{
				sql: r.d.statements.update, row: i, args: len(r.d.statements.updateColumns) + len(r.d.key) + 2, //nolint:mnd // version and time
				appendArgs: func(_ []any, position int) []any { return r.d.updateArgs(w.values.Index(position)) },
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

// UpsertMany is [Repository.Upsert] for each of the rows, any number of them: all or none, in a transaction (that of ctx, or
// one of its own) and in the order of their conflict columns so that concurrent calls don't deadlock. It returns what became
// of each row. Few rows are a statement each, some thousand of which travel in one round trip; from 256 rows on (see
// [WithStagingThreshold]), and when all of them leave the same columns to the database, they are copied into a temp table and written
// from there by one statement.
//
// Errors: those of Upsert; [*RowError] with [ErrDeleted]; [*InvalidError], also for two rows that would meet;
// [*ConstraintError] and [*RowError] with the index of the row that the database refused. Nothing has been written then.
func (r *Repository[T, K]) UpsertMany(ctx context.Context, rows []T, opts ...UpsertOption) ([]UpsertResult, error) {
	u, err := r.d.newUpsert(opts)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	w, err := r.newBulk(ctx, "upsert", rows)
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
	groups := w.groups(w.positions(w.matcher), r.d.upsertLayout)
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
	results := make([]UpsertResult, len(rows))
	for i := range results {
		if results[i] = Unchanged; !w.unchanged[i] {
			results[i] = upsertResult(w.inserted[i])
		}
	}
	return results, nil
}

// upserts makes a statement of each row, in the order of the rows whatever their forms are.
func (w *bulkWrite[T, K]) upserts(u *upsert, groups []layoutGroup) []bulkStatement {
	d := w.repository.d
	forms := make([][]byte, len(w.rows))
	for _, g := range groups {
		for _, i := range g.rows {
			forms[i] = g.layout
		}
	}
	statements := make([]bulkStatement, 0, len(w.rows))
	for _, i := range w.positions(w.matcher) {
		s := w.insertOf(forms[i], i)
		s.sql = u.text(d, forms[i])
		statements = append(statements, s)
	}
	return statements
}

// DeleteMany removes the rows with these keys, or marks them where a softdelete column is declared, and returns how many
// there were: it is no error when one is gone already. Some thousand keys travel in one round trip, more of them in a
// transaction (that of ctx, or one of its own), in the order of the keys so that concurrent calls don't deadlock. Errors:
// [*ConstraintError] with the key's index; nothing is then removed.
func (r *Repository[T, K]) DeleteMany(ctx context.Context, keys []K) (int64, error) {
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
		return r.deleteBatch(ctx, keys, positions) // one batch is atomic by itself
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
		return 0, err
	}
	return deleted, nil
}

// keyFields returns the columns of the key as they are found in a K.
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
	batch := &pgx.Batch{}
	for _, i := range positions {
		batch.Queue(r.d.statements.deleteRow, r.d.clockArgs(r.keyArgs(nil, keys[i]), r.d.softDelete >= 0 && r.d.usesClock(true))...)
	}
	var deleted int64
	results := r.tx.SendBatch(ctx, batch)
	for _, i := range positions {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close() // the error that matters is the first
			return 0, r.d.wrap("delete", err, i)
		}
		deleted += tag.RowsAffected()
	}
	if err := results.Close(); err != nil { // a constraint that is checked at the end
		return 0, r.wrap("delete", err)
	}
	return deleted, nil
}
