package repo

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Get returns the row with this key. Options may add a row lock, [WithDeleted] or filters. It takes one round trip. Errors:
// [ErrNotFound].
func (r *Repository[T, K]) Get(ctx context.Context, key K, opts ...QueryOption) (*T, error) {
	sql, args := r.d.texts.get, r.keyArgs(make([]any, 0, len(r.d.key)), key)
	if len(opts) > 0 {
		b := newBuilder(r.d, r.d.texts.selects)
		newQuery(append([]QueryOption{r.byKey(key)}, opts...)).write(b)
		if b.err != nil {
			return nil, b.err
		}
		sql, args = b.sql.String(), b.args
	}
	return r.found(r.one(ctx, sql, args))
}

// byKey matches the row with this key.
func (r *Repository[T, K]) byKey(key K) Filter {
	return filterFunc(func(b *builder) {
		glue := "("
		for i, value := range r.keyArgs(nil, key) {
			b.text(glue).text(r.d.columns[r.d.key[i]].ident).text(" = ").arg(value)
			glue = " and "
		}
		b.text(")")
	})
}

// found turns the result of reading one row into a method's.
func (r *Repository[T, K]) found(row *T, err error) (*T, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, r.notFound()
	}
	if err != nil {
		return nil, r.wrap("read", err)
	}
	return row, nil
}

func (r *Repository[T, K]) notFound() error { return &notFoundError{r.d.label} }

// First returns the first row that the options let through, in their order. It takes one round trip. Errors: [ErrNotFound],
// [ErrQuery].
func (r *Repository[T, K]) First(ctx context.Context, opts ...QueryOption) (*T, error) {
	q := newQuery(opts)
	if q.limit == nil {
		Limit(1).apply(q)
	}
	b := newBuilder(r.d, r.d.texts.selects)
	if q.write(b); b.err != nil {
		return nil, b.err
	}
	return r.found(r.one(ctx, b.sql.String(), b.args))
}

// Find returns the rows that the options let through, all of them without options; none is an empty slice. It takes one
// round trip. Errors: [ErrQuery].
func (r *Repository[T, K]) Find(ctx context.Context, opts ...QueryOption) ([]T, error) {
	q := newQuery(opts)
	b := newBuilder(r.d, r.d.texts.selects)
	if q.write(b); b.err != nil {
		return nil, b.err
	}
	return r.list(ctx, b, q.sizeHint())
}

// list reads the rows of a statement.
func (r *Repository[T, K]) list(ctx context.Context, b *builder, sizeHint int) ([]T, error) {
	var found []T
	err := r.query(ctx, b.sql.String(), b.args, func(rows pgx.Rows) error {
		var err error
		found, err = collect[T](rows, r.d.shape, sizeHint)
		return err
	})
	if err != nil {
		return nil, r.wrap("read", err)
	}
	return found, nil
}

// Count returns how many rows match. It takes filters, [WithDeleted] and [OnlyDeleted], and one round trip. Errors:
// [ErrQuery].
func (r *Repository[T, K]) Count(ctx context.Context, opts ...QueryOption) (int64, error) {
	q := newQuery(opts)
	b := newBuilder(r.d, "select count(*) from "+r.d.table)
	q.where(b)
	q.onlyFilters(b, "Count")
	return r.count(ctx, b)
}

func (r *Repository[T, K]) count(ctx context.Context, b *builder) (int64, error) {
	var count int64
	err := r.scalar(ctx, b, &count)
	return count, err
}

// Exists reports whether a row matches. It takes filters, [WithDeleted] and [OnlyDeleted], and one round trip. Errors:
// [ErrQuery].
func (r *Repository[T, K]) Exists(ctx context.Context, opts ...QueryOption) (bool, error) {
	var exists bool
	q := newQuery(opts)
	b := newBuilder(r.d, "select exists (select from "+r.d.table)
	q.where(b)
	q.onlyFilters(b, "Exists")
	err := r.scalar(ctx, b.text(")"), &exists)
	return exists, err
}

// scalar runs a statement that gives one value.
func (r *Repository[T, K]) scalar(ctx context.Context, b *builder, value any) error {
	if b.err != nil {
		return b.err
	}
	err := r.query(ctx, b.sql.String(), b.args, func(rows pgx.Rows) error {
		_, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
			return struct{}{}, row.Scan(value)
		})
		return err //nolint:wrapcheck // wrapped below
	})
	return r.wrap("read", err)
}

// write writes everything behind the table's name.
func (q *query) write(b *builder) {
	q.where(b)
	q.tail(b)
}

// onlyFilters refuses what a method has no use for.
func (q *query) onlyFilters(b *builder, method string) {
	if len(q.orders) > 0 || q.limit != nil || q.offset != nil || q.lock != "" || q.total {
		b.failf("%s takes filters, not an order, a limit, an offset or a lock", method)
	}
}

// sizeHint returns how many rows are expected at most, 0 when nobody knows.
func (q *query) sizeHint() int {
	if q.limit == nil {
		return 0
	}
	return int(*q.limit)
}
