package repo

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Change is an assignment to one column in [Repository.Patch] and [Repository.UpdateWhere].
type Change struct {
	column string
	value  any
	sql    string
	args   []any
	raw    bool
}

// Set assigns a value to a column.
func Set(column string, value any) Change { return Change{column: column, value: value} }

// SetExpr assigns an SQL expression to a column, with placeholders as in [Where]: SetExpr("stock", "stock - $1", 3).
func SetExpr(column, sql string, args ...any) Change {
	return Change{column: column, sql: sql, args: args, raw: true}
}

func (c Change) write(b *builder, live *liveColumns) {
	column, err := b.d.column(c.column)
	if err != nil {
		b.setError(err)
		return
	}
	if !column.changeable() {
		b.failf("column %q can't be set: it is the key, or its role leaves it to the database or to another method", c.column)
		return
	}
	b.text(column.ident + " = ")
	if c.raw {
		b.fragment(c.sql, c.args, false)
		return
	}
	position := b.d.byName[c.column]
	b.arg(live.arg(position, columnArg(c.value, column))).text(live.cast(position))
}

// set writes the assignments of an update: the changes, the time and the next version.
func (b *builder) set(live *liveColumns, changes []Change) {
	if len(changes) == 0 {
		b.failf("there are no changes")
	}
	named := map[string]bool{}
	for i, c := range changes {
		if named[c.column] {
			b.failf("column %q is set twice", c.column)
		}
		named[c.column] = true
		if i > 0 {
			b.text(", ")
		}
		c.write(b, live)
	}
	now := "now()"
	if b.d.clock != nil && b.d.updated >= 0 {
		b.args = append(b.args, b.d.now())
		now = b.d.clockText(len(b.args))
	}
	for _, touch := range b.d.touches(b.d.table, now) {
		b.text(", " + touch)
	}
}

// Patch changes some columns of the row with this key and leaves the others alone. updated is set to the current time, and a
// version increases without being compared. With filters the row has to match these too, such as Eq("version", 3). It returns
// the row as stored and takes one round trip. The row isn't validated, because only a part of it is known. Errors:
// [ErrNotFound], [ErrQuery], [*ConstraintError], [*ValueError].
func (r *Repository[T, K]) Patch(ctx context.Context, key K, changes []Change, filters ...Filter) (*T, error) {
	ctx = r.named(ctx, "Patch")
	live, err := r.liveColumns(ctx)
	if err != nil {
		return nil, r.wrap("patch", err)
	}
	b := newBuilder(r.d, "update "+r.d.table+" set ")
	b.set(live, changes)
	q := b.filtered([]Filter{r.byKey(key)})
	addOptions(q, filters)
	q.where(b)
	if b.err != nil {
		return nil, b.err
	}
	row, err := r.one(ctx, b.text(r.d.statements.returning).sql.String(), b.args)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, r.wrapStored(ctx, "patch", err)
	}
	return r.found(row, err)
}

// AllRows allows UpdateWhere and DeleteWhere to write every row. Pass it to the method itself, not to And, Or or Not.
func AllRows() Filter { return scope{"AllRows", func(q *query) { q.allRows = true }} }

// UpdateWhere changes some columns of all rows that match, as [Repository.Patch] does for one, and returns how many were
// changed. A call without a filter is an error unless [AllRows] is passed. It takes one round trip. Errors: [ErrQuery],
// [*ConstraintError].
func (r *Repository[T, K]) UpdateWhere(ctx context.Context, changes []Change, filters ...Filter) (int64, error) {
	ctx = r.named(ctx, "UpdateWhere")
	live, err := r.liveColumns(ctx)
	if err != nil {
		return 0, r.wrap("update", err)
	}
	b := newBuilder(r.d, "update "+r.d.table+" set ")
	b.set(live, changes)
	return r.execWhere(ctx, "update", "UpdateWhere", b, filters)
}

// DeleteWhere removes all rows that match and returns how many. With a softdelete column it marks them instead. A call without a
// filter is an error unless [AllRows] is passed. It takes one round trip. Errors: [ErrQuery], [*ConstraintError].
func (r *Repository[T, K]) DeleteWhere(ctx context.Context, filters ...Filter) (int64, error) {
	ctx = r.named(ctx, "DeleteWhere")
	b := r.builder(ctx, "delete from "+r.d.table)
	if r.d.softDelete >= 0 {
		b = r.builder(ctx, "update "+r.d.table+" set ")
		if r.d.usesClock(true) {
			b.args = append(b.args, r.d.now())
		}
		b.text(r.d.marksAt(true, 1))
	}
	return r.execWhere(ctx, "delete", "DeleteWhere", b, filters)
}

// execWhere adds the conditions to a statement and executes it.
func (r *base) execWhere(ctx context.Context, op, method string, b *builder, filters []Filter) (int64, error) {
	q := b.filtered(filters)
	if len(q.filters) == 0 && !q.allRows {
		b.failf("%s without a filter would write every row; pass AllRows if that is intended", method)
	}
	q.where(b)
	if b.err != nil {
		return 0, b.err
	}
	n, err := r.exec(ctx, b.sql.String(), b.args)
	if err != nil { // a constraint checked at the end fails after rows were counted
		return 0, r.wrap(op, err)
	}
	return n, nil
}
