package contest

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Raw is hand-written pgx with its default types: Scan into fields, and slices allocated at their final size.
func Raw() Contender {
	return Contender{"pgx", func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		return rawClient(pool, pool.Close), nil
	}}
}

// RawCodecs is the same code on the library's pool, with its codecs and statistics.
func RawCodecs() Contender {
	return Contender{"pgx+codecs", func(ctx context.Context, env Env) (*Client, error) {
		db, err := openDB(ctx, env)
		if err != nil {
			return nil, err
		}
		return rawClient(db.Pool(), func() { _ = db.Close(context.Background()) }), nil
	}}
}

func rawClient(pool *pgxpool.Pool, closeAll func()) *Client {
	last := &result{}
	scan := func(row pgx.Row, item *Item) error {
		return row.Scan(&item.ID, &item.Name, &item.Note, &item.Quantity, &item.Active, &item.Attributes, &item.Price,
			&item.CreatedAt, &item.UpdatedAt)
	}
	write := func(ctx context.Context, sql string, item *Item) error {
		return scan(pool.QueryRow(ctx, sql, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price,
			item.CreatedAt, item.UpdatedAt), item)
	}
	return &Client{
		Get: func(ctx context.Context, id uuid.UUID) error {
			item := new(Item)
			last.one = item
			return scan(pool.QueryRow(ctx, getSQL, id), item)
		},
		List: func(ctx context.Context) error {
			rows, err := pool.Query(ctx, listSQL, Listed)
			if err != nil {
				return err
			}
			defer rows.Close()
			items := make([]Item, 0, Listed)
			for rows.Next() {
				items = append(items, Item{})
				if err := scan(rows, &items[len(items)-1]); err != nil {
					return err
				}
			}
			last.many = items
			return rows.Err()
		},
		Insert: func(ctx context.Context, item *Item) error { return write(ctx, insertSQL, item) },
		Upsert: func(ctx context.Context, item *Item) error { return write(ctx, upsertSQL, item) },
		Count: func(ctx context.Context) error {
			return pool.QueryRow(ctx, countSQL, true).Scan(&last.n)
		},
		Exists: func(ctx context.Context, id uuid.UUID) error {
			return pool.QueryRow(ctx, existsSQL, id).Scan(&last.ok)
		},
		UpdateMany: func(ctx context.Context, items []Item) error { return updateLoop(ctx, pool, items) },
		Result:     last.items,
		Close:      closeAll,
	}
}

const updateSQL = "update items set name = $2, note = $3, quantity = $4, active = $5, attributes = $6, price = $7, created_at = $8, " +
	"updated_at = $9 where id = $1"

// updateLoop is the obvious way: one statement per row, in one transaction.
func updateLoop(ctx context.Context, pool *pgxpool.Pool, items []Item) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for i := range items {
			item := &items[i]
			if _, err := tx.Exec(ctx, updateSQL, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes,
				item.Price, item.CreatedAt, item.UpdatedAt); err != nil {
				return err
			}
		}
		return nil
	})
}

// CopyFrom is hand-written code with pgx.CopyFrom.
func CopyFrom() Contender {
	return rawBulk("CopyFrom", func(pool *pgxpool.Pool, client *Client) {
		columnNames := names(dataColumns)
		client.InsertMany = func(ctx context.Context, items []Item) error {
			_, err := pool.CopyFrom(ctx, pgx.Identifier{"items"}, columnNames, pgx.CopyFromSlice(len(items), func(i int) ([]any, error) {
				item := &items[i]
				return []any{
					item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price, item.CreatedAt, item.UpdatedAt,
				}, nil
			}))
			return err
		}
		client.InsertReturning = client.InsertMany // the baseline, although it returns no keys
	})
}

// MultiValues is hand-written multi-row VALUES, with 1,000 rows per statement, in a transaction.
func MultiValues() Contender {
	return rawBulk("multi-VALUES", func(pool *pgxpool.Pool, client *Client) {
		const perStatement = 1000
		insert := "insert into items (" + dataColumns + ") values " + valuesList(perStatement, 8)
		upsert := "insert into items (" + columns + ") values " + valuesList(perStatement, 9) + " on conflict (id) do update set " + assignments
		send := func(ctx context.Context, sql string, items []Item, keyed bool) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				args := make([]any, 0, 9*perStatement)
				for len(items) >= perStatement {
					args = args[:0]
					for i := range items[:perStatement] {
						item := &items[i]
						if keyed {
							args = append(args, item.ID)
						}
						args = append(args, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price,
							item.CreatedAt, item.UpdatedAt)
					}
					if _, err := tx.Exec(ctx, sql, args...); err != nil {
						return err
					}
					items = items[perStatement:]
				}
				return nil
			})
		}
		client.InsertMany = func(ctx context.Context, items []Item) error { return send(ctx, insert, items, false) }
		client.UpsertMany = func(ctx context.Context, items []Item) error { return send(ctx, upsert, items, true) }
	})
}

func valuesList(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	return b.String() + ")"
}

// Batch is hand-written code with pgx.Batch: one statement per row, all in one round trip.
func Batch() Contender {
	return rawBulk("Batch", func(pool *pgxpool.Pool, client *Client) {
		insert := "insert into items (" + dataColumns + ") values ($1, $2, $3, $4, $5, $6, $7, $8)"
		client.InsertMany = func(ctx context.Context, items []Item) error {
			batch := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, 0, len(items))}
			for i := range items {
				item := &items[i]
				batch.Queue(insert, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price, item.CreatedAt,
					item.UpdatedAt)
			}
			return pool.SendBatch(ctx, batch).Close()
		}
		client.UpdateMany = func(ctx context.Context, items []Item) error {
			batch := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, 0, len(items))}
			for i := range items {
				item := &items[i]
				batch.Queue(updateSQL, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price,
					item.CreatedAt, item.UpdatedAt)
			}
			return pool.SendBatch(ctx, batch).Close()
		}
	})
}

// Unnest is one hand-written statement with an array per column.
func Unnest() Contender {
	return rawBulk("unnest", func(pool *pgxpool.Pool, client *Client) {
		const arrays = "$1::text[], $2::text[], $3::int[], $4::bool[], $5::jsonb[], $6::float8[], $7::timestamptz[], $8::timestamptz[]"
		insert := "insert into items (" + dataColumns + ") select " + dataColumns + " from unnest(" + arrays + ") as new(" + dataColumns + ")"
		upsert := "insert into items (" + dataColumns + ", id) select " + dataColumns + ", id from unnest(" + arrays + ", $9::uuid[]) as new(" +
			dataColumns + ", id) " +
			"on conflict (id) do update set " + assignments
		update := "update items set name = new.name, note = new.note, quantity = new.quantity, active = new.active, " +
			"attributes = new.attributes, price = new.price, created_at = new.created_at, updated_at = new.updated_at " +
			"from unnest(" + arrays + ", $9::uuid[]) as new(" + dataColumns + ", id) where items.id = new.id"
		send := func(ctx context.Context, sql string, items []Item) error {
			_, err := pool.Exec(ctx, sql, append(arraysOf(items), keysOf(items))...)
			return err
		}
		client.InsertMany = func(ctx context.Context, items []Item) error {
			_, err := pool.Exec(ctx, insert, arraysOf(items)...)
			return err
		}
		client.InsertReturning = func(ctx context.Context, items []Item) error {
			rows, err := pool.Query(ctx, insert+" returning id", arraysOf(items)...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for i := 0; rows.Next(); i++ { // the order is that of the arrays in practice, though not guaranteed
				if err := rows.Scan(&items[i].ID); err != nil {
					return err
				}
			}
			return rows.Err()
		}
		client.UpdateMany = func(ctx context.Context, items []Item) error { return send(ctx, update, items) }
		client.UpsertMany = func(ctx context.Context, items []Item) error { return send(ctx, upsert, items) }
	})
}

func keysOf(items []Item) []uuid.UUID {
	keys := make([]uuid.UUID, len(items))
	for i := range items {
		keys[i] = items[i].ID
	}
	return keys
}

// arraysOf returns an array for each column except the key.
func arraysOf(items []Item) []any {
	n := len(items)
	names, notes, quantities, actives := make([]string, n), make([]*string, n), make([]int32, n), make([]bool, n)
	attributes, prices := make([]json.RawMessage, n), make([]float64, n)
	created, updated := make([]time.Time, n), make([]time.Time, n)
	for i := range items {
		item := &items[i]
		names[i], notes[i], quantities[i], actives[i] = item.Name, item.Note, item.Quantity, item.Active
		attributes[i], prices[i], created[i], updated[i] = item.Attributes, item.Price, item.CreatedAt, item.UpdatedAt
	}
	return []any{names, notes, quantities, actives, attributes, prices, created, updated}
}

// rawBulk is a contender with bulk operations only.
func rawBulk(name string, add func(pool *pgxpool.Pool, client *Client)) Contender {
	return Contender{name, func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		client := &Client{Result: func() any { return nil }, Close: pool.Close}
		add(pool, client)
		return client, nil
	}}
}
