package contest

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Rower is the method that a transaction and a manager share.
type Rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ThreeStatements is the work in each transaction.
func ThreeStatements(ctx context.Context, q Rower) error {
	var n int64
	for i := range int64(3) {
		if err := q.QueryRow(ctx, "select $1::bigint", i).Scan(&n); err != nil {
			return err
		}
	}
	return nil
}

// BeginFunc is a transaction with pgx.BeginFunc on the library's pool. It includes the cost of the pool's statistics, so the
// difference to Do is the cost of the transaction manager.
func BeginFunc() Contender {
	return Contender{"BeginFunc", func(ctx context.Context, env Env) (*Client, error) {
		db, err := openDB(ctx, env)
		if err != nil {
			return nil, err
		}
		return beginFunc(db.Pool(), func() { _ = db.Close(context.Background()) }), nil
	}}
}

// BeginFuncPlain is a transaction with pgx.BeginFunc on a plain pgx pool.
func BeginFuncPlain() Contender {
	return Contender{"BeginFunc-plain", func(ctx context.Context, env Env) (*Client, error) {
		pool, err := plainPool(ctx, env)
		if err != nil {
			return nil, err
		}
		return beginFunc(pool, pool.Close), nil
	}}
}

func beginFunc(pool *pgxpool.Pool, closeAll func()) *Client {
	return &Client{
		Transaction: func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return ThreeStatements(ctx, tx) })
		},
		Result: func() any { return nil },
		Close:  closeAll,
	}
}

// Do is a transaction with txn.Manager.Do. The options select how an in-doubt commit is resolved.
func Do(name string, opts ...txn.Option) Contender {
	return Contender{name, func(ctx context.Context, env Env) (*Client, error) {
		db, err := openDB(ctx, env)
		if err != nil {
			return nil, err
		}
		manager, err := txn.NewManager(db, txn.WithDefaults(opts...))
		if err != nil {
			return nil, err
		}
		return &Client{
			Transaction: func(ctx context.Context) error {
				return manager.Do(ctx, func(ctx context.Context) error { return ThreeStatements(ctx, manager) })
			},
			Result: func() any { return nil },
			Close: func() {
				_ = manager.Close(context.Background())
				_ = db.Close(context.Background())
			},
		}, nil
	}}
}
