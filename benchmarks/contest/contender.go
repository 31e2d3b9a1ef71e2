package contest

import (
	"context"
	"database/sql"
	"net"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// PoolSize is the number of connections that each contender may have.
const PoolSize = 4

// Env is where a contender works.
type Env struct {
	// URL is the server's address.
	URL string
	// Dial opens its connections; nil is pgx's own way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Contender is one way to work with a database.
type Contender struct {
	// Name says which; it has no blanks.
	Name string
	// Open opens its pool.
	Open func(ctx context.Context, env Env) (*Client, error)
}

// Client is an open contender. Operations that it doesn't have are nil. It is for one goroutine.
type Client struct {
	Get            func(ctx context.Context, id uuid.UUID) error
	List           func(ctx context.Context) error
	Insert, Upsert func(ctx context.Context, row *Item) error
	Count          func(ctx context.Context) error
	Exists         func(ctx context.Context, id uuid.UUID) error
	// InsertMany stores rows whose keys the database makes; InsertReturning also brings these back.
	InsertMany, InsertReturning func(ctx context.Context, rows []Item) error
	UpdateMany, UpsertMany      func(ctx context.Context, rows []Item) error
	Transaction                 func(ctx context.Context) error
	// Statement runs one statement on a connection that is held; Acquire takes a connection and gives it back.
	Statement, Acquire func(ctx context.Context) error

	// Reset, if there is one, is called before each call that is measured by itself.
	Reset func()

	// Result returns what the last operation read: []Item, int64 or bool, and nil when it has put it into what it was given.
	Result func() any
	Close  func()
}

// result holds what an operation has read.
type result struct {
	one  *Item
	many []Item
	n    int64
	ok   bool
}

func (r *result) items() any {
	switch {
	case r.one != nil:
		return []Item{*r.one}
	case r.many != nil:
		return r.many
	case r.n != 0:
		return r.n
	case r.ok:
		return r.ok
	default:
		return nil
	}
}

// plainPool opens a pool as pgx makes it.
func plainPool(ctx context.Context, env Env) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(env.URL)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = PoolSize
	if env.Dial != nil {
		cfg.ConnConfig.DialFunc = env.Dial
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// plainConfig returns the configuration for a pool of database/sql.
func plainConfig(env Env) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(env.URL)
	if err == nil && env.Dial != nil {
		cfg.DialFunc = env.Dial
	}
	return cfg, err
}

// openSQL opens a pool of database/sql with pgx's driver.
func openSQL(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(PoolSize)
	db.SetMaxIdleConns(PoolSize)
	return db
}
