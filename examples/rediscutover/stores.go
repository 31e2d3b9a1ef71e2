package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// docs: model

// Item is the row of a key. A value of any type of Redis is a JSON document.
type Item struct {
	Key       string           `db:"key,pk"`
	Value     redisstore.Value `db:"value"`
	ExpiresAt *time.Time       `db:"expires_at"`
}

const createItems = `create table if not exists items (
	key        text collate "C" primary key,
	value      jsonb not null,
	expires_at timestamptz
)`

func newTarget(rows *repo.Repository[Item, string]) (cutover.New[redisstore.Value], error) {
	return cutover.FromRepository(rows, cutover.Mapping[redisstore.Value, Item, string]{
		Key: func(key string) (string, error) { return key, nil },
		Row: func(e cutover.Entry[redisstore.Value]) (Item, error) {
			item := Item{Key: e.Key, Value: e.Value}
			if !e.Expires.IsZero() {
				item.ExpiresAt = &e.Expires
			}
			return item, nil
		},
		Entry: func(item *Item) (cutover.Entry[redisstore.Value], error) {
			e := cutover.Entry[redisstore.Value]{Key: item.Key, Value: item.Value}
			if item.ExpiresAt != nil {
				e.Expires = *item.ExpiresAt
			}
			return e, nil
		},
		KeyColumn: "key", ExpiresColumn: "expires_at",
	})
}

// docs: end

// stores are connections to both servers, and the cutover.
type stores struct {
	client   *redis.Client
	database *rdsfx.Database
	mover    *cutover.Mover[redisstore.Value]
}

// open connects to both servers.
func open(ctx context.Context, redisURL, databaseURL string) (_ *stores, err error) {
	s := &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	if s.client, err = newClient(redisURL); err != nil {
		return nil, err
	}
	config := pgfx.Config{URL: databaseURL, Pool: pgfx.PoolConfig{MaxConns: 10}}
	if s.database, err = rdsfx.Open(config, rdsfx.WithPool(
		pgfx.WithSetup(pgfx.SetupSQL("create items", createItems), cutover.Setup()))); err != nil {
		return nil, err
	}
	if err := s.database.Start(ctx); err != nil {
		return nil, err
	}
	s.mover, err = newMover(s.client, s.database)
	return s, err
}

// docs: open
func newClient(redisURL string) (*redis.Client, error) {
	config, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	config.ContextTimeoutEnabled = true
	return redis.NewClient(config), nil
}

func newMover(client *redis.Client, database *rdsfx.Database) (*cutover.Mover[redisstore.Value], error) {
	source, err := redisstore.New(client, "items", redisstore.Any())
	if err != nil {
		return nil, err
	}
	rows, err := repo.New[Item, string](database.Tx, "items")
	if err != nil {
		return nil, err
	}
	target, err := newTarget(rows)
	if err != nil {
		return nil, err
	}
	return cutover.NewMover(database.Tx, "items", cutover.Old[redisstore.Value](source), target, cutover.Config[redisstore.Value]{
		Canonical: source.Canonical,
		// The example has no time for the defaults, which are 10 minutes and 1,000 comparisons.
		Gates: cutover.Gates{Window: 2 * time.Second, MinComparisons: 100, Soak: time.Second},
	})
}

// docs: end

func (s *stores) close(ctx context.Context) error {
	var errs []error
	if s.mover != nil {
		errs = append(errs, s.mover.Stop(ctx))
	}
	if s.database != nil {
		errs = append(errs, s.database.Close(ctx))
	}
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}
