package repo

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Create inserts the row and sets all of its columns to what the database stored. Columns with the role default are left to the
// database if their field is zero. created and updated are set to the current time if their field is zero; a value that is set
// already is stored. A zero version starts at 1. It takes one round trip. [SendZero] sends zero values of columns with the role
// default. Errors: [*InvalidError], [*ConstraintError], [*ValueError].
func (r *Repository[T, K]) Create(ctx context.Context, row *T, opts ...CreateOption) error {
	ctx = r.named(ctx, "Create")
	zero, err := r.d.createOptions(opts)
	if err != nil {
		return err
	}
	v, err := r.validRow(ctx, "create", row)
	if err != nil {
		return err
	}
	var buf [layoutCapacity]byte
	layout := zero.fill(r.d.insertLayout(buf[:0], v))
	live, err := r.liveColumns(ctx)
	if err != nil {
		return r.wrap("create", err)
	}
	fresh, err := r.one(ctx, r.d.createText(live, layout), r.d.insertArgs(live, make([]any, 0, len(layout)), v, layout))
	if err != nil {
		err = nameArgument(err, r.d.argColumns(layout))
	}
	return r.setReturned(ctx, "create", row, fresh, err)
}

// layoutCapacity is the number of columns up to which a layout needs no allocation.
const layoutCapacity = 64

// validRow validates a row before it is written and returns its value.
func (r *Repository[T, K]) validRow(ctx context.Context, op string, row *T) (reflect.Value, error) {
	if row == nil {
		return reflect.Value{}, &queryError{op + " " + r.d.label + ": the row is nil"}
	}
	if err := r.d.validate(ctx, row, -1); err != nil {
		return reflect.Value{}, err
	}
	return reflect.ValueOf(row).Elem(), nil
}

// setReturned copies the columns that the database returned into the caller's row.
func (r *Repository[T, K]) setReturned(ctx context.Context, op string, row, fresh *T, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrSuppressed
	}
	if err != nil {
		return r.wrapStored(ctx, op, err)
	}
	if r.d.complete {
		*row = *fresh
		return nil
	}
	r.d.copyColumns(reflect.ValueOf(row).Elem(), reflect.ValueOf(fresh).Elem())
	return nil
}

// Update writes all columns of the row with this key, except for the key and columns with the roles created, softdelete,
// generated and readonly. updated is set to the current time. All columns of the struct are set to what the database stored.
//
// With a version column the row is written only if its version in the database equals that of the struct, and the version
// increases. It takes one round trip, and a second one to find out why nothing was written. Errors: [ErrNotFound],
// [*StaleError], [*InvalidError], [*ConstraintError].
func (r *Repository[T, K]) Update(ctx context.Context, row *T) error {
	ctx = r.named(ctx, "Update")
	v, err := r.validRow(ctx, "update", row)
	if err != nil {
		return err
	}
	if r.d.statements.update == "" {
		return &queryError{"update " + r.d.label + ": the model has no columns besides its key"}
	}
	live, err := r.liveColumns(ctx)
	if err != nil {
		return r.wrap("update", err)
	}
	fresh, err := r.one(ctx, r.d.updateText(live), r.d.updateArgs(live, v))
	if errors.Is(err, pgx.ErrNoRows) {
		return r.notUpdatedError(ctx, v)
	}
	if err != nil {
		err = nameArgument(err, r.d.columnsAt(slices.Concat(r.d.statements.updateColumns, r.d.key)))
	}
	return r.setReturned(ctx, "update", row, fresh, err)
}

// updateArgs returns the arguments of an update of the whole row.
func (d *descriptor) updateArgs(live *liveColumns, v reflect.Value) []any {
	args := make([]any, 0, len(d.statements.updateColumns)+len(d.key)+2) //nolint:mnd // version and time
	for _, position := range d.statements.updateColumns {
		args = append(args, live.arg(position, fieldArg(v, &d.columns[position])))
	}
	args = d.rowKeyArgs(args, v)
	if d.version >= 0 {
		args = append(args, fieldArg(v, &d.columns[d.version]))
	}
	return d.clockArgs(args, d.clock != nil && d.updated >= 0)
}

// notUpdatedError returns why an update found no row: it doesn't exist, or it has another version.
func (r *base) notUpdatedError(ctx context.Context, v reflect.Value) error {
	if r.d.version < 0 {
		return r.notFound()
	}
	var stored int64
	err := r.query(ctx, r.d.statements.readVersion, r.d.rowKeyArgs(nil, v), func(rows pgx.Rows) error {
		var err error
		stored, err = pgx.CollectOneRow(rows, pgx.RowTo[int64])
		return err //nolint:wrapcheck // wrapped below
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return r.notFound()
	}
	if err != nil {
		return r.wrap("update", err)
	}
	have, _ := fieldOf(v, &r.d.columns[r.d.version])
	return &StaleError{Table: r.d.label, Have: intOf(have), Stored: stored}
}

// Delete deletes the row with this key. With a softdelete column it marks the row instead. It takes one round trip. Errors:
// [ErrNotFound], also for a row that is already soft-deleted, and [*ConstraintError].
func (r *Repository[T, K]) Delete(ctx context.Context, key K) error {
	ctx = r.named(ctx, "Delete")
	soft := r.d.softDelete >= 0
	return r.execByKey(ctx, "delete", r.d.statements.deleteRow, key, soft && r.d.usesClock(true))
}

// Restore restores a soft-deleted row. It takes one round trip. Errors: [ErrNotFound], also for a row that isn't deleted, and
// [ErrQuery] for a model without a softdelete column.
func (r *Repository[T, K]) Restore(ctx context.Context, key K) error {
	ctx = r.named(ctx, "Restore")
	if r.d.softDelete < 0 {
		return &queryError{"restore " + r.d.label + ": the model has no column with the role softdelete"}
	}
	return r.execByKey(ctx, "restore", r.d.statements.restore, key, r.d.usesClock(false))
}

// HardDelete deletes the row with this key, soft-deleted or not. It takes one round trip. Errors: [ErrNotFound],
// [*ConstraintError].
func (r *Repository[T, K]) HardDelete(ctx context.Context, key K) error {
	ctx = r.named(ctx, "HardDelete")
	return r.execByKey(ctx, "delete", r.d.statements.hardDelete, key, false)
}

// execByKey executes a statement that changes the row with this key.
func (r *Repository[T, K]) execByKey(ctx context.Context, op, sql string, key K, clock bool) error {
	args := r.d.clockArgs(r.keyArgs(nil, key), clock)
	changed, err := r.exec(ctx, sql, args)
	if err != nil {
		return r.wrap(op, err)
	}
	if changed == 0 {
		return r.notFound()
	}
	return nil
}
