package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

// UpdateMany writes the rows, any number of them: all or none. It is [Repository.Update] for each, in a transaction (that of
// ctx, or one of its own) and in one round trip for some thousand rows, in the order of their keys so that concurrent calls
// don't deadlock. Errors: [*RowError] with [ErrNotFound] or a [*StaleError]; [*InvalidError], also for a key that occurs
// twice; [*ConstraintError] with the row's index.
func (r *Repository[T, K]) UpdateMany(ctx context.Context, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	if r.d.texts.update == "" {
		return &queryError{"update " + r.d.label + ": the model has nothing but its key"}
	}
	values, err := r.validMany(ctx, rows)
	if err != nil {
		return err
	}
	order, err := r.sorted(values, r.d.key)
	if err != nil {
		return err
	}
	work := &bulk[T, K]{repository: r, op: "update", values: values, together: true}
	for _, i := range order {
		work.statements = append(work.statements, bulkStatement{
			sql: r.d.texts.update, rows: []int{i}, args: len(r.d.texts.setting) + len(r.d.key) + 2, //nolint:mnd // version and time
			build: func(_ []any, position int) []any { return r.d.updateArgs(values[position]) },
		})
	}
	work.absent = func(ctx context.Context, position int) error {
		return &RowError{Table: r.d.label, Index: position, err: r.whyNot(ctx, values[position])}
	}
	return work.run(ctx)
}

// UpsertMany is [Repository.Upsert] for each of the rows, any number of them: all or none, in a transaction (that of ctx, or
// one of its own) and in one round trip for some thousand rows, in the order of their conflict columns so that concurrent
// calls don't deadlock. It returns what became of each row. Errors: those of Upsert, [*RowError] with [ErrDeleted],
// [*InvalidError] for two rows that would meet.
func (r *Repository[T, K]) UpsertMany(ctx context.Context, rows []T, opts ...UpsertOption) ([]Outcome, error) {
	u, err := r.d.newUpsert(opts)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	values, err := r.validMany(ctx, rows)
	if err != nil {
		return nil, err
	}
	var target []int
	for _, name := range u.target.columns {
		target = append(target, r.d.byName[name])
	}
	order, err := r.sorted(values, target)
	if err != nil {
		return nil, err
	}
	work := &bulk[T, K]{repository: r, op: "upsert", values: values, together: true, inserted: make([]bool, len(rows))}
	for _, i := range order {
		form := r.d.upsertForm(values[i])
		if err := u.check(r.d, form); err != nil {
			return nil, err
		}
		work.add(u.text(r.d, form, 1), form, []int{i})
	}
	outcomes := make([]Outcome, len(rows))
	met := make([]bool, len(rows))
	work.absent = func(ctx context.Context, position int) error {
		row, err := r.met(ctx, values[position], u)
		if err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				err = errSuppressed
			}
			return &RowError{Table: r.d.label, Index: position, err: r.wrap("upsert", err)}
		}
		met[position] = true
		work.fresh[position] = reflect.ValueOf(row).Elem()
		return nil
	}
	if err := work.run(ctx); err != nil {
		return nil, err
	}
	for i := range outcomes {
		if !met[i] {
			outcomes[i] = outcomeOf(work.inserted[i])
		}
	}
	return outcomes, nil
}

// DeleteMany removes the rows with these keys, or marks them where a softdelete column is declared, and returns how many
// there were: it is no error when one is gone already. It works in a transaction (that of ctx, or one of its own) and in one
// round trip, in the order of the keys so that concurrent calls don't deadlock. Errors: [*ConstraintError]; nothing is then
// removed.
func (r *Repository[T, K]) DeleteMany(ctx context.Context, keys []K) (int64, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	args := make([][]any, len(keys))
	for i := range keys {
		args[i] = r.keyArgs(nil, keys[i])
	}
	slices.SortStableFunc(args, func(a, b []any) int {
		return slices.CompareFunc(a, b, func(a, b any) int { return compareValues(reflect.ValueOf(a), reflect.ValueOf(b)) })
	})
	batch := &pgx.Batch{}
	for i := range args {
		batch.Queue(r.d.texts.remove, r.d.clockArgs(args[i], r.d.softDelete >= 0 && r.d.usesClock(true))...)
	}
	var deleted int64
	results := r.tx.SendBatch(ctx, batch) // one batch is atomic by itself
	for range args {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close() // the error that matters is the first
			return 0, r.wrap("delete", err)
		}
		deleted += tag.RowsAffected()
	}
	if err := results.Close(); err != nil { // a constraint that is checked at the end
		return 0, r.wrap("delete", err)
	}
	return deleted, nil
}

// sorted returns the positions of rows in the order of these columns. Two rows that are the same in them are an error. Rows
// whose values can't be compared stay in their order.
func (r *Repository[T, K]) sorted(values []reflect.Value, columns []int) ([]int, error) {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	for _, position := range columns {
		if c := &r.d.columns[position]; c.indirect || !exact(c.typ) {
			return order, nil
		}
	}
	if len(columns) == 0 {
		return order, nil
	}
	compare := func(a, b int) int {
		for _, position := range columns {
			index := r.d.columns[position].index
			if c := compareValues(values[a].FieldByIndex(index), values[b].FieldByIndex(index)); c != 0 {
				return c
			}
		}
		return 0
	}
	slices.SortStableFunc(order, compare)
	for i := 1; i < len(order); i++ {
		if compare(order[i-1], order[i]) == 0 {
			return nil, &InvalidError{
				Table: r.d.label, Index: order[i],
				err: fmt.Errorf("it has the same key or conflict columns as the row at index %d", order[i-1]),
			}
		}
	}
	return order, nil
}

// compareValues compares two values of one exact type. Any order serves as long as it is always the same.
func compareValues(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.Kind() == reflect.String:
		return cmp.Compare(a.String(), b.String())
	case isUUID(a.Type()):
		return bytes.Compare(uuidBytes(a), uuidBytes(b))
	}
	return 0
}

// uuidBytes returns the bytes of a UUID of whatever type.
func uuidBytes(v reflect.Value) []byte {
	id := make([]byte, v.Len())
	reflect.Copy(reflect.ValueOf(id), v)
	return id
}
