package repo

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Page is one page of rows.
type Page[T any] struct {
	// Rows are the rows in the requested order, an empty slice if there are none.
	Rows []T
	// Next and Previous are the cursors of the pages after and before this one, "" if there is none.
	Next, Previous string
	// Total is the number of matching rows on all pages together, -1 without [WithTotal].
	Total int64
}

// WithTotal makes [Repository.Page] count the rows of all pages, in a second round trip.
func WithTotal() QueryOption { return queryOptionFunc(func(q *query) { q.total = true }) }

// Page returns up to size rows that match, from the position of the cursor on. The empty cursor stands for the beginning. Pages
// are cut by the values of the order's columns (keyset pagination) instead of by an offset. Every page costs the same, and rows
// that are inserted or deleted meanwhile don't move other rows between pages. The key is appended to the order, which makes it
// unambiguous.
//
// A cursor belongs to a table and an order. It may travel through a client: the values in it are readable, and they are used as
// arguments only. It takes one round trip. Errors: [ErrQuery], which is also an [ErrCursor] if the cursor is damaged or belongs
// to another order.
func (r *Repository[T, K]) Page(ctx context.Context, cursor string, size int, opts ...QueryOption) (*Page[T], error) {
	ctx = r.named(ctx, "Page")
	q := newQuery(opts)
	k, position, b := r.pageQuery(ctx, q, cursor, size)
	if b.err != nil {
		return nil, b.err
	}
	count := *q
	if cursor != "" {
		q.filters = append(slices.Clip(q.filters), filterFunc(func(b *builder) { k.writeAfter(b, position.Values) }))
	}
	q.orders = k.orders
	Limit(size + 1).apply(q) // one more row shows whether there is another page
	q.write(b)
	sql, args, err := b.statement()
	if err != nil {
		return nil, err
	}
	found, err := r.pageRows(ctx, sql, args, size)
	if err != nil {
		return nil, err
	}
	page := found.page(k, position.Backward, cursor != "", size)
	if q.total {
		counting := newBuilder(r.d, r.d.statements.count)
		count.where(counting)
		if sql, args, err = counting.statement(); err != nil {
			return nil, err
		}
		if page.Total, err = scalar[int64](ctx, &r.base, sql, args); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// pageQuery checks the arguments of Page and begins its statement.
func (r *base) pageQuery(ctx context.Context, q *query, cursor string, size int) (keyset, pagePosition, *builder) {
	d, b := r.d, r.builder(ctx, "select "+r.d.statements.columnList)
	if size < 1 {
		b.failf("page size %d: it must be positive", size)
	}
	if q.limit != nil || q.offset != nil {
		b.failf("Page takes no limit and no offset: use the size and the cursor")
	}
	k := d.keyset(b, q.orders)
	position, err := k.parse(cursor)
	if err != nil {
		b.setError(err)
	}
	if position.Backward {
		k = k.reversed()
	}
	if b.err == nil {
		b.text(", " + k.textColumn() + " from " + d.table)
	}
	return k, position, b
}

// pageRows are the rows of a page and, for each, the text of the order's columns.
type pageRows[T any] struct {
	rows      []T
	positions [][]*string
}

func (r *Repository[T, K]) pageRows(ctx context.Context, sql string, args []any, size int) (found pageRows[T], err error) {
	err = r.queryIdempotent(ctx, sql, args, func(rows pgx.Rows) error {
		defer rows.Close()
		found = pageRows[T]{rows: make([]T, 0, min(size+1, maxInitialCapacity))}
		var positions []*string
		reader := newReader[T](r.d.shape, &positions)
		for rows.Next() {
			found.rows = append(found.rows, *new(T))
			positions = nil
			if err := reader.read(rows, &found.rows[len(found.rows)-1]); err != nil {
				return err
			}
			found.positions = append(found.positions, positions)
		}
		return rows.Err()
	})
	return found, r.wrap("read", err)
}

// page makes a page of the rows, which are one more than size if there is another page. started reports whether the page
// has a cursor.
func (f pageRows[T]) page(k keyset, backward, started bool, size int) *Page[T] {
	more := len(f.rows) > size
	n := min(size, len(f.rows))
	rows, positions := f.rows[:n], f.positions[:n]
	if backward {
		slices.Reverse(rows)
		slices.Reverse(positions)
	}
	page := &Page[T]{Rows: rows, Total: -1}
	if n == 0 {
		return page
	}
	if more || backward {
		page.Next = k.cursor(pagePosition{Values: positions[n-1]})
	}
	if more && backward || started && !backward {
		page.Previous = k.cursor(pagePosition{Values: positions[0], Backward: true})
	}
	return page
}
