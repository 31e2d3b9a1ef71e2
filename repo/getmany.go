package repo

import (
	"context"
	"errors"
	"iter"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// GetMany returns the rows with these keys in the order of the keys. If some don't exist it returns the others and a
// [*MissingError], which matches [ErrNotFound]. A duplicate key returns its row twice. Options are filters and row locks.
//
// It finds the rows that [Repository.Get] finds, also if the server compares keys in its own way, for example without regard to
// case. It takes one round trip, and a second one if keys of a string type come back with another text or not at all.
func (r *Repository[T, K]) GetMany(ctx context.Context, keys []K, opts ...QueryOption) ([]T, error) {
	ctx = r.named(ctx, "GetMany")
	if len(keys) == 0 {
		return []T{}, nil
	}
	if len(r.d.key) == 1 && exact(r.d.columns[r.d.key[0]].typ) {
		return r.getByList(ctx, keys, opts)
	}
	return r.getOneByOne(ctx, keys, opts)
}

// getByList sends the keys in one array and matches the rows by key.
func (r *Repository[T, K]) getByList(ctx context.Context, keys []K, opts []QueryOption) ([]T, error) {
	sql, args, err := r.listStatement(ctx, keys, opts)
	if err != nil {
		return nil, err
	}
	rows, err := r.list(ctx, sql, args, len(keys))
	if err != nil {
		return nil, err
	}
	found, missing := r.arrange(keys, rows)
	if len(missing) == 0 || r.d.comparesAsServer(r.d.key) {
		return found, r.missing(len(keys), missing)
	}
	unmatched := make([]K, len(missing))
	for i, position := range missing {
		unmatched[i] = keys[position]
	}
	more, absent, err := r.readEach(ctx, unmatched, opts)
	if err != nil {
		return nil, err
	}
	found, missing = merge(len(keys), found, more, missing, absent)
	return found, r.missing(len(keys), missing)
}

// merge merges the rows that were found by a list with those that were found one by one. missing are the positions of the latter
// among n keys, and absent are the indexes in missing that have no row. It returns the rows in the order of the keys, and the
// positions of the keys without a row.
func merge[T any](n int, found, more []T, missing, absent []int) (rows []T, without []int) {
	rows = make([]T, 0, n-len(absent))
	for position, i := 0, 0; position < n; position++ {
		switch {
		case i == len(missing) || missing[i] != position:
			rows, found = append(rows, found[0]), found[1:]
			continue
		case len(absent) > 0 && absent[0] == i:
			without, absent = append(without, position), absent[1:]
		default:
			rows, more = append(rows, more[0]), more[1:]
		}
		i++
	}
	return rows, without
}

func (r *Repository[T, K]) listStatement(ctx context.Context, keys []K, opts []QueryOption) (sql string, args []any, err error) {
	b := r.builder(ctx, r.d.statements.selectFrom)
	q := b.reads(nil)
	In(r.d.columns[r.d.key[0]].name, keys...).apply(q)
	addOptions(q, opts)
	q.withoutOrder(b, "GetMany")
	q.write(b)
	return b.statement()
}

// arrange returns the rows in the order of their keys, and the positions of the keys without a row.
func (r *Repository[T, K]) arrange(keys []K, rows []T) (found []T, missing []int) {
	byKey := make(map[any]int, len(rows))
	for i := range rows {
		byKey[r.d.comparableKey(reflect.ValueOf(&rows[i]).Elem())] = i
	}
	found = make([]T, 0, len(keys))
	for i := range keys {
		if at, ok := byKey[any(keys[i])]; ok {
			found = append(found, rows[at])
			continue
		}
		missing = append(missing, i)
	}
	return found, missing
}

// comparableKey returns a row's key, of one column, as a comparable value.
func (d *descriptor) comparableKey(v reflect.Value) any {
	return v.FieldByIndex(d.columns[d.key[0]].index).Interface()
}

// getOneByOne reads each row by its key.
func (r *Repository[T, K]) getOneByOne(ctx context.Context, keys []K, opts []QueryOption) ([]T, error) {
	found, missing, err := r.readEach(ctx, keys, opts)
	if err != nil {
		return nil, err
	}
	return found, r.missing(len(keys), missing)
}

// readEach sends one statement per key, all in one round trip. missing are the positions of the keys without a row.
func (r *Repository[T, K]) readEach(ctx context.Context, keys []K, opts []QueryOption) (found []T, missing []int, err error) {
	batch, describe := &pgx.Batch{}, newDescriber(r.untyped)
	for _, key := range keys {
		sql, args, err := r.keyStatement(ctx, key, opts)
		if err != nil {
			return nil, nil, err
		}
		describe.queue(batch, sql, args)
	}
	err = retryRead(ctx, r.tx, func() error {
		return retryStale(ctx, r.tx, func() (refused bool, err error) {
			found, missing, err = r.readBatch(ctx, batch)
			return false, err
		})
	})
	if err != nil {
		return nil, nil, r.wrap("read", r.explainKeys(ctx, batch, err))
	}
	return found, missing, nil
}

// explainKeys names the column of a key that was refused.
func (r *base) explainKeys(ctx context.Context, batch *pgx.Batch, err error) error {
	sql := batch.QueuedQueries[0].SQL
	_, value := explainBatch(ctx, r.tx, batch.Len(), func(position int) (*descriptor, batchStatement) {
		q := batch.QueuedQueries[position]
		return r.d, batchStatement{sql: q.SQL, args: q.Arguments}
	}, err)
	if value != nil {
		err = value
	}
	return r.d.nameParameter(err, sql)
}

// readBatch reads one row per statement of a batch. missing are the statements without a row.
func (r *Repository[T, K]) readBatch(ctx context.Context, batch *pgx.Batch) (found []T, missing []int, err error) {
	found = make([]T, 0, batch.Len())
	results := r.tx.SendBatch(ctx, batch)
	for i := range batch.Len() {
		rows, err := results.Query()
		var row *T
		if err == nil {
			row, err = readFirst[T](rows, r.d.shape)
		}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			missing = append(missing, i)
		case err != nil:
			_ = results.Close() // the error that matters is the first
			return nil, nil, err
		default:
			found = append(found, *row)
		}
	}
	return found, missing, results.Close() //nolint:wrapcheck // the caller wraps it with the operation
}

// keyStatement returns the statement that reads one of several rows.
func (r *Repository[T, K]) keyStatement(ctx context.Context, key K, opts []QueryOption) (sql string, args []any, err error) {
	b := r.builder(ctx, r.d.statements.selectFrom)
	q := b.reads(nil)
	r.byKey(key).apply(q)
	addOptions(q, opts)
	q.withoutOrder(b, "GetMany")
	q.write(b)
	return b.statement()
}

func (r *base) missing(keys int, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	return &MissingError{Table: r.d.label, Keys: keys, Indexes: indexes}
}

// withoutOrder reports an error for options that a method with a fixed order can't apply.
func (q *query) withoutOrder(b *builder, method string) {
	if len(q.orders) > 0 || q.limit != nil || q.offset != nil {
		b.failf("%s takes filters and locks, not an order, a limit or an offset", method)
	}
}

// All returns an iterator over the rows that match, in one round trip. It holds one row at a time; each row is a new struct. Breaking
// off the loop cancels the statement and releases the connection. In a transaction, which cancelling would end, the remaining
// rows are read and discarded instead.
//
// Within a transaction the loop's body can't use the transaction, which is busy with the rows ([txn.ErrConcurrentUse]). An error is
// the last element: [ErrQuery], or that of the statement.
func (r *Repository[T, K]) All(ctx context.Context, opts ...QueryOption) iter.Seq2[*T, error] {
	ctx = r.named(ctx, "All")
	return func(yield func(*T, error) bool) {
		b := r.builder(ctx, r.d.statements.selectFrom)
		if newQuery(opts).write(b); b.err != nil {
			yield(nil, b.err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		_, inside := r.tx.Tx(ctx)
		stopped := false
		var failed error // after the first row, when a retry would repeat rows
		err := r.queryIdempotent(ctx, b.sql.String(), b.args, func(rows pgx.Rows) error {
			reader, begun, exhausted := newReader[T](r.d.shape), false, false
			defer func() { // also after a panic of the loop's body
				if !inside && !exhausted {
					cancel()
				}
				rows.Close()
			}()
			for rows.Next() {
				row := new(T)
				if failed = reader.read(rows, row); failed != nil {
					return nil
				}
				begun = true
				if stopped = !yield(row, nil); stopped {
					return nil
				}
			}
			exhausted = true
			if begun {
				failed = rows.Err()
				return nil
			}
			return rows.Err()
		})
		if err == nil {
			err = failed
		}
		if err != nil && !stopped {
			yield(nil, r.wrap("read", err))
		}
	}
}

// Column returns one column of the rows that match. V must be able to hold its values. It takes one round trip. Errors:
// [ErrQuery].
func Column[V, T, K any](ctx context.Context, r *Repository[T, K], column string, opts ...QueryOption) ([]V, error) {
	ctx = r.named(ctx, "Column")
	b := r.builder(ctx, "select ")
	b.column(column).text(" from " + r.d.table)
	if newQuery(opts).write(b); b.err != nil {
		return nil, b.err
	}
	values := []V{}
	err := r.queryIdempotent(ctx, b.sql.String(), b.args, func(rows pgx.Rows) error {
		var err error
		values, err = pgx.AppendRows(values[:0], rows, columnTo[V](rows))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, r.wrap("read", err)
	}
	return values, nil
}

// Lock returns the row with this key and locks it against other writers and lockers until the transaction of ctx ends. Options may
// be [SkipLocked] or [NoWait]. Errors: [ErrNotFound], and [ErrQuery] outside a transaction.
func (r *Repository[T, K]) Lock(ctx context.Context, key K, opts ...LockOption) (*T, error) {
	ctx = r.named(ctx, "Lock")
	if err := r.needTransaction(ctx, "Lock"); err != nil {
		return nil, err
	}
	return r.Get(ctx, key, ForUpdate(opts...))
}

// Claim returns up to n rows that no other transaction has locked and locks them until the transaction of ctx ends. Several workers can so
// process one queue without waiting for each other. Options select and order the rows. Errors: [ErrQuery], also outside a
// transaction.
func (r *Repository[T, K]) Claim(ctx context.Context, n int, opts ...QueryOption) ([]T, error) {
	ctx = r.named(ctx, "Claim")
	if err := r.needTransaction(ctx, "Claim"); err != nil {
		return nil, err
	}
	claim := make([]QueryOption, 0, len(opts)+2) //nolint:mnd // limit and lock
	return r.Find(ctx, append(append(claim, opts...), Limit(n), ForUpdate(SkipLocked))...)
}

func (r *base) needTransaction(ctx context.Context, method string) error {
	if _, inside := r.tx.Tx(ctx); !inside {
		return &queryError{r.d.label + ": " + method + " needs a transaction (txn.Manager.Do): without one the lock would be released at once"}
	}
	return nil
}
