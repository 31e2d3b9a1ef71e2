package contest

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// openDB opens the library's pool with its default settings.
func openDB(ctx context.Context, env Env) (*pgfx.DB, error) {
	return openWith(ctx, env, pgfx.Config{URL: env.URL, Pool: pgfx.PoolConfig{MaxConns: PoolSize}})
}

func openWith(ctx context.Context, env Env, cfg pgfx.Config) (*pgfx.DB, error) {
	var opts []pgfx.Option
	if env.Dial != nil {
		opts = append(opts, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
			cc.DialFunc = env.Dial
			return nil
		}))
	}
	db, err := pgfx.Open(cfg, opts...)
	if err != nil {
		return nil, err
	}
	if err := db.Start(ctx); err != nil {
		_ = db.Close(ctx) // the error of the start matters more
		return nil, err
	}
	return db, nil
}

// RDSFX is a repository.
func RDSFX() Contender { return repository(library) }

// RDSFXKeys is a repository that generates keys in the application.
func RDSFXKeys() Contender {
	made := 0 // the same keys in each call, as recorded
	contender := repository("rdsfx+keys", repo.WithKeys(func() uuid.UUID {
		made++
		return Key(made)
	}))
	open := contender.Open
	contender.Open = func(ctx context.Context, env Env) (*Client, error) {
		client, err := open(ctx, env)
		if err == nil {
			client.Reset = func() { made = 0 }
		}
		return client, err
	}
	return contender
}

// repository is a contender with a *repo.Repository.
func repository(name string, opts ...repo.Option) Contender {
	return Contender{name, func(ctx context.Context, env Env) (*Client, error) {
		db, err := openDB(ctx, env)
		if err != nil {
			return nil, err
		}
		manager, err := txn.NewManager(db)
		if err != nil {
			return nil, err
		}
		items, err := repo.New[Item, uuid.UUID](manager, "items", opts...)
		if err != nil {
			return nil, err
		}
		return repositoryClient(items, func() {
			_ = manager.Close(context.Background())
			_ = db.Close(context.Background())
		}), nil
	}}
}

func repositoryClient(items *repo.Repository[Item, uuid.UUID], closeAll func()) *Client {
	last := &result{}
	return &Client{
		Get: func(ctx context.Context, id uuid.UUID) (err error) {
			last.one, err = items.Get(ctx, id)
			return err
		},
		List: func(ctx context.Context) (err error) {
			last.many, err = items.Find(ctx, repo.Asc("id"), repo.Limit(Listed))
			return err
		},
		Insert: func(ctx context.Context, row *Item) error { return items.Create(ctx, row) },
		Upsert: func(ctx context.Context, row *Item) error {
			_, err := items.Upsert(ctx, row)
			return err
		},
		Count: func(ctx context.Context) (err error) {
			last.n, err = items.Count(ctx, repo.Eq("active", true))
			return err
		},
		Exists: func(ctx context.Context, id uuid.UUID) (err error) {
			last.ok, err = items.Exists(ctx, repo.Eq("id", id))
			return err
		},
		InsertReturning: func(ctx context.Context, rows []Item) error { return items.CreateMany(ctx, rows) },
		UpdateMany:      items.UpdateMany,
		UpsertMany: func(ctx context.Context, rows []Item) error {
			_, err := items.UpsertMany(ctx, rows)
			return err
		},
		InsertMany: func(ctx context.Context, rows []Item) error {
			_, err := items.CopyMany(ctx, rows)
			return err
		},
		Result: last.items,
		Close:  closeAll,
	}
}
