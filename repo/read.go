package repo

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Get returns the row with this key, in one round trip. Options may add filters, [WithDeleted] or a row lock. Errors:
// [ErrNotFound], and a [*ValueError] for a key that the column's type can't hold, such as a malformed UUID.
func (r *Repository[T, K]) Get(ctx context.Context, key K, opts ...QueryOption) (*T, error) {
	ctx = r.named(ctx, "Get")
	sql, args, err := r.getStatement(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	return r.found(r.first(ctx, sql, args))
}

func (r *Repository[T, K]) getStatement(ctx context.Context, key K, opts []QueryOption) (sql string, args []any, err error) {
	if len(opts) == 0 {
		return r.d.statements.get, r.keyArgs(make([]any, 0, len(r.d.key)), key), nil
	}
	b := r.builder(ctx, r.d.statements.selectFrom)
	q := b.reads(nil)
	r.byKey(key).apply(q)
	addOptions(q, opts)
	q.write(b)
	return b.statement()
}

// byKey matches the row with this key.
func (r *Repository[T, K]) byKey(key K) Filter {
	return filterFunc(func(b *builder) {
		separator := "("
		for i, value := range r.keyArgs(nil, key) {
			b.text(separator).text(r.d.columns[r.d.key[i]].ident).text(" = ").arg(value)
			separator = conjunction
		}
		b.text(")")
	})
}

// found translates the result of reading one row.
func (r *Repository[T, K]) found(row *T, err error) (*T, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, r.notFound()
	}
	if err != nil {
		return nil, r.wrap("read", err)
	}
	return row, nil
}

func (r *base) notFound() error { return &notFoundError{r.d.label} }

// First returns the first row that the options select, in one round trip. Errors: [ErrNotFound], [ErrQuery].
func (r *Repository[T, K]) First(ctx context.Context, opts ...QueryOption) (*T, error) {
	ctx = r.named(ctx, "First")
	sql, args, err := r.firstStatement(ctx, opts)
	if err != nil {
		return nil, err
	}
	return r.found(r.first(ctx, sql, args))
}

func (r *base) firstStatement(ctx context.Context, opts []QueryOption) (sql string, args []any, err error) {
	b := r.builder(ctx, r.d.statements.selectFrom)
	q := b.reads(opts)
	if q.limit == nil {
		q.limit = q.bound(0, "limit", 1)
	}
	q.write(b)
	return b.statement()
}

// Find returns the rows that the options select, in one round trip. Without options it returns all rows. If there are none, it
// returns an empty slice. Errors: [ErrQuery].
func (r *Repository[T, K]) Find(ctx context.Context, opts ...QueryOption) ([]T, error) {
	ctx = r.named(ctx, "Find")
	sql, args, expected, err := r.findStatement(ctx, opts)
	if err != nil {
		return nil, err
	}
	return r.list(ctx, sql, args, expected)
}

// findStatement also returns the largest number of rows expected, 0 if it is unknown.
func (r *base) findStatement(ctx context.Context, opts []QueryOption) (sql string, args []any, expected int, err error) {
	b := r.builder(ctx, r.d.statements.selectFrom)
	q := b.reads(opts)
	q.write(b)
	expected = q.sizeHint()
	sql, args, err = b.statement()
	return sql, args, expected, err
}

// list reads the rows of a statement.
func (r *Repository[T, K]) list(ctx context.Context, sql string, args []any, sizeHint int) ([]T, error) {
	var found []T
	err := r.queryIdempotent(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		found, err = collect[T](rows, r.d.shape, sizeHint)
		return err
	})
	if err != nil {
		return nil, r.wrap("read", err)
	}
	return found, nil
}

// Count returns the number of rows that match all filters, in one round trip. Errors: [ErrQuery].
func (r *Repository[T, K]) Count(ctx context.Context, filters ...Filter) (int64, error) {
	ctx = r.named(ctx, "Count")
	sql, args, err := r.countStatement(ctx, filters)
	if err != nil {
		return 0, err
	}
	return scalar[int64](ctx, &r.base, sql, args)
}

func (r *base) countStatement(ctx context.Context, filters []Filter) (sql string, args []any, err error) {
	b := r.builder(ctx, r.d.statements.count)
	b.filtered(filters).where(b)
	return b.statement()
}

// Exists reports whether a row matches all filters, in one round trip. Errors: [ErrQuery].
func (r *Repository[T, K]) Exists(ctx context.Context, filters ...Filter) (bool, error) {
	ctx = r.named(ctx, "Exists")
	sql, args, err := r.existsStatement(ctx, filters)
	if err != nil {
		return false, err
	}
	return scalar[bool](ctx, &r.base, sql, args)
}

func (r *base) existsStatement(ctx context.Context, filters []Filter) (sql string, args []any, err error) {
	b := r.builder(ctx, r.d.statements.exists)
	b.filtered(filters).where(b)
	return b.text(")").statement()
}

// scalar runs a statement that returns one value.
func scalar[V any](ctx context.Context, r *base, sql string, args []any) (V, error) {
	var value V
	err := r.queryIdempotent(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		value, err = readValue[V](rows)
		return err
	})
	return value, r.wrap("read", err)
}

// write writes the rest of a statement after the table's name.
func (q *query) write(b *builder) {
	q.where(b)
	q.tail(b)
}

// sizeHint returns the largest number of rows expected, 0 if it is unknown.
func (q *query) sizeHint() int {
	if q.limit == nil {
		return 0
	}
	return int(*q.limit)
}
