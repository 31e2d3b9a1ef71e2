package contest

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// sqlcItem is the row as sqlc generates it for pgx, with pgx's types.
type sqlcItem struct {
	ID         pgtype.UUID
	Name       string
	Note       pgtype.Text
	Quantity   int32
	Active     bool
	Attributes []byte
	Price      float64
	CreatedAt  pgtype.Timestamptz
	UpdatedAt  pgtype.Timestamptz
}

func (row *sqlcItem) item() Item {
	item := Item{
		ID: row.ID.Bytes, Name: row.Name, Quantity: row.Quantity, Active: row.Active, Attributes: row.Attributes, Price: row.Price,
		CreatedAt: row.CreatedAt.Time, UpdatedAt: row.UpdatedAt.Time,
	}
	if row.Note.Valid {
		item.Note = &row.Note.String
	}
	return item
}

// SQLC is the form of code that sqlc generates: pgx's types in the structs, Scan into fields and a slice that grows.
func SQLC() Contender {
	return Contender{"sqlc", func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		var last []sqlcItem
		var one sqlcItem
		write := func(ctx context.Context, sql string, item *Item) error {
			// An application on sqlc has its values in these types already.
			note := pgtype.Text{}
			if item.Note != nil {
				note = pgtype.Text{String: *item.Note, Valid: true}
			}
			row := pool.QueryRow(ctx, sql, pgtype.UUID{Bytes: item.ID, Valid: true}, item.Name, note, item.Quantity, item.Active,
				[]byte(item.Attributes), item.Price, pgtype.Timestamptz{Time: item.CreatedAt, Valid: true},
				pgtype.Timestamptz{Time: item.UpdatedAt, Valid: true})
			var i sqlcItem
			err := row.Scan(&i.ID, &i.Name, &i.Note, &i.Quantity, &i.Active, &i.Attributes, &i.Price, &i.CreatedAt, &i.UpdatedAt)
			one = i
			return err
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				row := pool.QueryRow(ctx, getSQL, pgtype.UUID{Bytes: id, Valid: true})
				var i sqlcItem
				err := row.Scan(&i.ID, &i.Name, &i.Note, &i.Quantity, &i.Active, &i.Attributes, &i.Price, &i.CreatedAt, &i.UpdatedAt)
				one = i
				return err
			},
			List: func(ctx context.Context) error {
				rows, err := pool.Query(ctx, listSQL, int32(Listed))
				if err != nil {
					return err
				}
				defer rows.Close()
				var items []sqlcItem
				for rows.Next() {
					var i sqlcItem
					err := rows.Scan(&i.ID, &i.Name, &i.Note, &i.Quantity, &i.Active, &i.Attributes, &i.Price, &i.CreatedAt, &i.UpdatedAt)
					if err != nil {
						return err
					}
					items = append(items, i)
				}
				last = items
				return rows.Err()
			},
			Insert: func(ctx context.Context, item *Item) error { return write(ctx, insertSQL, item) },
			Upsert: func(ctx context.Context, item *Item) error { return write(ctx, upsertSQL, item) },
			Result: func() any {
				items := make([]Item, 0, len(last))
				for i := range last {
					items = append(items, last[i].item())
				}
				if last == nil {
					items = append(items, one.item())
				}
				return items
			},
			Close: pool.Close,
		}, nil
	}}
}
