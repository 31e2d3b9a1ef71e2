package contest

import (
	"context"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
)

// ByName is pgx with its mapper, pgx.RowToStructByName.
func ByName() Contender {
	return Contender{"RowToStructByName", func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		last := &result{}
		write := func(ctx context.Context, sql string, item *Item) error {
			rows, err := pool.Query(ctx, sql, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price,
				item.CreatedAt, item.UpdatedAt)
			if err != nil {
				return err
			}
			*item, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Item])
			return err
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				rows, err := pool.Query(ctx, getSQL, id)
				if err != nil {
					return err
				}
				last.one, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Item])
				return err
			},
			List: func(ctx context.Context) error {
				rows, err := pool.Query(ctx, listSQL, Listed)
				if err != nil {
					return err
				}
				last.many, err = pgx.AppendRows(make([]Item, 0, Listed), rows, pgx.RowToStructByName[Item])
				return err
			},
			Insert: func(ctx context.Context, item *Item) error { return write(ctx, insertSQL, item) },
			Upsert: func(ctx context.Context, item *Item) error { return write(ctx, upsertSQL, item) },
			Result: last.items,
			Close:  pool.Close,
		}, nil
	}}
}

// Scany is pgx with scany's mapper.
func Scany() Contender {
	return Contender{"scany", func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		last := &result{}
		write := func(ctx context.Context, sql string, item *Item) error {
			fresh := Item{}
			err := pgxscan.Get(ctx, pool, &fresh, sql, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes,
				item.Price, item.CreatedAt, item.UpdatedAt)
			*item = fresh
			return err
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				last.one = new(Item)
				return pgxscan.Get(ctx, pool, last.one, getSQL, id)
			},
			List: func(ctx context.Context) error {
				last.many = make([]Item, 0, Listed)
				return pgxscan.Select(ctx, pool, &last.many, listSQL, Listed)
			},
			Insert: func(ctx context.Context, item *Item) error { return write(ctx, insertSQL, item) },
			Upsert: func(ctx context.Context, item *Item) error { return write(ctx, upsertSQL, item) },
			Result: last.items,
			Close:  pool.Close,
		}, nil
	}}
}

// SQLX is sqlx on database/sql with pgx's driver.
func SQLX() Contender {
	return Contender{"sqlx", func(_ context.Context, env Env) (*Client, error) {
		cfg, err := plainConfig(env)
		if err != nil {
			return nil, err
		}
		db := sqlx.NewDb(openSQL(cfg), "pgx")
		last := &result{}
		write := func(ctx context.Context, sql string, item *Item) error {
			return db.GetContext(ctx, item, sql, item.ID, item.Name, item.Note, item.Quantity, item.Active, item.Attributes, item.Price,
				item.CreatedAt, item.UpdatedAt)
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				last.one = new(Item)
				return db.GetContext(ctx, last.one, getSQL, id)
			},
			List: func(ctx context.Context) error {
				last.many = make([]Item, 0, Listed)
				return db.SelectContext(ctx, &last.many, listSQL, Listed)
			},
			Insert: func(ctx context.Context, item *Item) error { return write(ctx, insertSQL, item) },
			Upsert: func(ctx context.Context, item *Item) error { return write(ctx, upsertSQL, item) },
			Count:  func(ctx context.Context) error { return db.GetContext(ctx, &last.n, countSQL, true) },
			Exists: func(ctx context.Context, id uuid.UUID) error { return db.GetContext(ctx, &last.ok, existsSQL, id) },
			Result: last.items,
			Close:  func() { _ = db.Close() },
		}, nil
	}}
}
