package repo

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

// BatchRepository adds a repository's calls to a batch. Each method adds one call and corresponds to the repository's method of the
// same name. Arguments are fixed at the call, except for the row of Create, which is written as it is when the batch is sent. An
// invalid filter or option fails the batch before it is sent ([ErrQuery]).
type BatchRepository[T, K any] struct {
	r *Repository[T, K]
	b *Batch
}

// In returns a BatchRepository that adds calls to the batch.
func (r *Repository[T, K]) In(b *Batch) BatchRepository[T, K] {
	return BatchRepository[T, K]{r: r, b: b}
}

// Get adds a [Repository.Get] to the batch.
func (q BatchRepository[T, K]) Get(key K, opts ...QueryOption) *Result[*T] {
	opts = slices.Clone(opts)
	return q.row("Get", func(ctx context.Context) (string, []any, error) { return q.r.getStatement(ctx, key, opts) })
}

// First adds a [Repository.First] to the batch.
func (q BatchRepository[T, K]) First(opts ...QueryOption) *Result[*T] {
	opts = slices.Clone(opts)
	return q.row("First", func(ctx context.Context) (string, []any, error) { return q.r.firstStatement(ctx, opts) })
}

// Find adds a [Repository.Find] to the batch.
func (q BatchRepository[T, K]) Find(opts ...QueryOption) *Result[[]T] {
	opts = slices.Clone(opts)
	expected := 0
	build := func(ctx context.Context) (sql string, args []any, err error) {
		sql, args, expected, err = q.r.findStatement(ctx, opts)
		return sql, args, err
	}
	return call(q.b, &q.r.base, "Find", "read", build, func(rows pgx.Rows) ([]T, error) {
		return collect[T](rows, q.r.d.shape, expected)
	})
}

// Count adds a [Repository.Count] to the batch.
func (q BatchRepository[T, K]) Count(filters ...Filter) *Result[int64] {
	filters = slices.Clone(filters)
	build := func(ctx context.Context) (string, []any, error) { return q.r.countStatement(ctx, filters) }
	return call(q.b, &q.r.base, "Count", "read", build, readValue[int64])
}

// Exists adds a [Repository.Exists] to the batch.
func (q BatchRepository[T, K]) Exists(filters ...Filter) *Result[bool] {
	filters = slices.Clone(filters)
	build := func(ctx context.Context) (string, []any, error) { return q.r.existsStatement(ctx, filters) }
	return call(q.b, &q.r.base, "Exists", "read", build, readValue[bool])
}

// GetMany adds a [Repository.GetMany] to the batch.
func (q BatchRepository[T, K]) GetMany(keys []K, opts ...QueryOption) *Result[[]T] {
	result, c := newCall[[]T](q.b, &q.r.base, "GetMany", "read")
	if len(keys) == 0 {
		c.done = func() { result.set([]T{}, nil) }
		return result
	}
	keys, opts = slices.Clone(keys), slices.Clone(opts)
	var rows []T
	if r := q.r; len(r.d.key) == 1 && r.d.comparesAsServer(r.d.key) {
		c.prepareOne(func(ctx context.Context) (string, []any, error) { return r.listStatement(ctx, keys, opts) })
		c.read = func(_ int, answer pgx.Rows) (err error) {
			rows, err = collect[T](answer, r.d.shape, len(keys))
			return err
		}
		c.done = func() {
			found, missing := r.arrange(keys, rows)
			result.set(found, r.missing(len(keys), missing))
		}
		return result
	}
	c.prepare = func(ctx context.Context) error {
		for _, key := range keys {
			sql, args, err := q.r.keyStatement(ctx, key, opts)
			if err != nil {
				return err
			}
			c.statements = append(c.statements, batchStatement{sql: sql, args: args})
		}
		return nil
	}
	var missing []int
	c.read = func(statement int, answer pgx.Rows) error {
		if statement == 0 { // perhaps again
			rows, missing = make([]T, 0, len(keys)), nil
		}
		row, err := readFirst[T](answer, q.r.d.shape)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			missing = append(missing, statement)
		case err != nil:
			return err
		default:
			rows = append(rows, *row)
		}
		return nil
	}
	c.done = func() { result.set(rows, q.r.missing(len(keys), missing)) }
	return result
}

// Create adds a [Repository.Create] to the batch. The row is set after the whole batch succeeded. The result is the same
// pointer.
func (q BatchRepository[T, K]) Create(row *T, opts ...CreateOption) *Result[*T] {
	r := q.r
	result, c := newCall[*T](q.b, &q.r.base, "Create", "create")
	c.writes = true
	c.prepare = func(ctx context.Context) error {
		v, err := r.validRow(ctx, "create", row)
		if err != nil {
			return err
		}
		live, err := r.liveColumns(ctx)
		if err != nil {
			return err
		}
		zero, err := r.d.createOptions(opts)
		if err != nil {
			return err
		}
		layout := zero.fill(r.d.insertLayout(nil, v))
		args := r.d.insertArgs(live, make([]any, 0, len(layout)), v, layout)
		c.statements = []batchStatement{{r.d.createText(live, layout), args, r.d.argColumns(layout)}}
		return nil
	}
	var fresh *T
	c.read = func(_ int, answer pgx.Rows) (err error) {
		if fresh, err = readFirst[T](answer, r.d.shape); errors.Is(err, pgx.ErrNoRows) {
			return ErrSuppressed
		}
		return err
	}
	c.done = func() {
		r.d.copyColumns(reflect.ValueOf(row).Elem(), reflect.ValueOf(fresh).Elem())
		result.set(row, nil)
	}
	return result
}

// Delete adds a [Repository.Delete] to the batch. The result is whether the row existed.
func (q BatchRepository[T, K]) Delete(key K) *Result[bool] {
	return q.mark("Delete", q.r.d.statements.deleteRow, key, q.r.d.softDelete >= 0 && q.r.d.usesClock(true))
}

// HardDelete adds a [Repository.HardDelete] to the batch. The result is whether the row existed.
func (q BatchRepository[T, K]) HardDelete(key K) *Result[bool] {
	return q.mark("HardDelete", q.r.d.statements.hardDelete, key, false)
}

func (q BatchRepository[T, K]) mark(name, sql string, key K, clock bool) *Result[bool] {
	args := q.r.d.clockArgs(q.r.keyArgs(nil, key), clock)
	build := func(context.Context) (string, []any, error) { return sql, args, nil }
	result := call(q.b, &q.r.base, name, "delete", build, func(rows pgx.Rows) (bool, error) {
		rows.Close()
		return rows.CommandTag().RowsAffected() > 0, rows.Err()
	})
	q.b.calls[len(q.b.calls)-1].writes = true
	return result
}

// row adds a call that returns one row.
func (q BatchRepository[T, K]) row(name string, build buildStatement) *Result[*T] {
	var absent error
	result := call(q.b, &q.r.base, name, "read", build, func(rows pgx.Rows) (*T, error) {
		row, err := readFirst[T](rows, q.r.d.shape)
		if absent = nil; errors.Is(err, pgx.ErrNoRows) {
			absent = q.r.notFound()
			return nil, nil //nolint:nilnil // that there is no row is the call's result and no failure
		}
		return row, err
	})
	added := q.b.calls[len(q.b.calls)-1]
	found := added.done
	added.done = func() {
		if found(); absent != nil {
			result.set(nil, absent)
		}
	}
	return result
}

// newCall adds a call to the batch.
func newCall[V any](b *Batch, r *base, name, op string) (*Result[V], *batchCall) {
	result := &Result[V]{err: errNotSent}
	c := &batchCall{name: name + " of " + r.d.label, tx: r.tx, d: r.d, op: op, untyped: r.untyped, fail: result.fail}
	b.add(c)
	return result, c
}

// buildStatement builds a statement when the batch is sent.
type buildStatement func(ctx context.Context) (sql string, args []any, err error)

// call adds a call of one statement, whose result is read by read.
func call[V any](b *Batch, r *base, name, op string, build buildStatement, read func(pgx.Rows) (V, error)) *Result[V] {
	result, c := newCall[V](b, r, name, op)
	c.prepareOne(build)
	var value V
	c.read = func(_ int, rows pgx.Rows) (err error) {
		value, err = read(rows)
		return err
	}
	c.done = func() { result.set(value, nil) }
	return result
}

// prepareOne makes the call send one statement.
func (c *batchCall) prepareOne(build buildStatement) {
	c.prepare = func(ctx context.Context) error {
		sql, args, err := build(ctx)
		c.statements = []batchStatement{{sql: sql, args: args}}
		return err
	}
}
