package contest

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// Bun is bun on database/sql with pgx's driver. It formats arguments into its statements, so it uses the simple protocol, as its
// documentation recommends.
func Bun() Contender {
	return Contender{"bun", func(_ context.Context, env Env) (*Client, error) {
		cfg, err := plainConfig(env)
		if err != nil {
			return nil, err
		}
		cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		db := bun.NewDB(openSQL(cfg), pgdialect.New())
		last := &result{}
		upsert := func(q *bun.InsertQuery) *bun.InsertQuery {
			q = q.On("conflict (id) do update")
			for _, name := range names(dataColumns) {
				q = q.Set(name + " = excluded." + name)
			}
			return q
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				last.one = new(Item)
				return db.NewSelect().Model(last.one).Where("id = ?", id).Scan(ctx)
			},
			List: func(ctx context.Context) error {
				last.many = make([]Item, 0, Listed)
				return db.NewSelect().Model(&last.many).Order("id").Limit(Listed).Scan(ctx)
			},
			Insert: func(ctx context.Context, item *Item) error {
				_, err := db.NewInsert().Model(item).Returning("*").Exec(ctx)
				return err
			},
			Upsert: func(ctx context.Context, item *Item) error {
				_, err := upsert(db.NewInsert().Model(item)).Returning("*").Exec(ctx)
				return err
			},
			Count: func(ctx context.Context) (err error) {
				last.n, err = db.NewSelect().Model((*Item)(nil)).Where("active = ?", true).Count(ctx)
				return err
			},
			Exists: func(ctx context.Context, id uuid.UUID) (err error) {
				last.ok, err = db.NewSelect().Model((*Item)(nil)).Where("id = ?", id).Exists(ctx)
				return err
			},
			InsertMany: func(ctx context.Context, items []Item) error {
				_, err := db.NewInsert().Model(&items).Returning("null").Exec(ctx)
				return err
			},
			InsertReturning: func(ctx context.Context, items []Item) error {
				_, err := db.NewInsert().Model(&items).Exec(ctx)
				return err
			},
			UpdateMany: func(ctx context.Context, items []Item) error {
				_, err := db.NewUpdate().Model(&items).Bulk().Exec(ctx)
				return err
			},
			UpsertMany: func(ctx context.Context, items []Item) error {
				_, err := upsert(db.NewInsert().Model(&items)).Returning("null").Exec(ctx)
				return err
			},
			Transaction: func(ctx context.Context) error {
				return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
					var n int64
					for i := range int64(3) {
						if err := tx.QueryRowContext(ctx, "select ?::bigint", i).Scan(&n); err != nil {
							return err
						}
					}
					return nil
				})
			},
			Result: last.items,
			Close:  func() { _ = db.Close() },
		}, nil
	}}
}

// GORM is GORM on database/sql with pgx's driver, without its default transaction around each write.
func GORM() Contender {
	return Contender{"GORM", func(_ context.Context, env Env) (*Client, error) {
		cfg, err := plainConfig(env)
		if err != nil {
			return nil, err
		}
		pool := openSQL(cfg)
		db, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
			SkipDefaultTransaction: true, Logger: logger.Discard,
		})
		if err != nil {
			return nil, err
		}
		last := &result{}
		conflict := clause.OnConflict{
			Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns(names(dataColumns)),
		}
		const perStatement = 5000 // the limit is 65,535 arguments
		insert := func(ctx context.Context, items []Item) error {
			return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				return tx.CreateInBatches(items, perStatement).Error
			})
		}
		return &Client{
			Get: func(ctx context.Context, id uuid.UUID) error {
				last.one = new(Item)
				return db.WithContext(ctx).Take(last.one, "id = ?", id).Error
			},
			List: func(ctx context.Context) error {
				last.many = make([]Item, 0, Listed)
				return db.WithContext(ctx).Order("id").Limit(Listed).Find(&last.many).Error
			},
			Insert: func(ctx context.Context, item *Item) error {
				return db.WithContext(ctx).Clauses(clause.Returning{}).Create(item).Error
			},
			Upsert: func(ctx context.Context, item *Item) error {
				return db.WithContext(ctx).Clauses(conflict, clause.Returning{}).Create(item).Error
			},
			Count: func(ctx context.Context) error {
				return db.WithContext(ctx).Model(&Item{}).Where("active = ?", true).Count(&last.n).Error
			},
			Exists: func(ctx context.Context, id uuid.UUID) error {
				return db.WithContext(ctx).Raw("select exists (select from items where id = ?)", id).Scan(&last.ok).Error
			},
			InsertMany:      insert,
			InsertReturning: insert,
			UpdateMany: func(ctx context.Context, items []Item) error {
				return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					for i := range items {
						if err := tx.Save(&items[i]).Error; err != nil {
							return err
						}
					}
					return nil
				})
			},
			UpsertMany: func(ctx context.Context, items []Item) error {
				return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					return tx.Clauses(conflict).CreateInBatches(items, perStatement).Error
				})
			},
			Transaction: func(ctx context.Context) error {
				return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
					var n int64
					for i := range int64(3) {
						if err := tx.Raw("select ?::bigint", i).Scan(&n).Error; err != nil {
							return err
						}
					}
					return nil
				})
			},
			Result: last.items,
			Close:  func() { _ = pool.Close() },
		}, nil
	}}
}
