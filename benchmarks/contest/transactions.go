package contest

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Rower is what a transaction and a manager have in common.
type Rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ThreeStatements is what all transactions do.
func ThreeStatements(ctx context.Context, q Rower) error {
	var n int64
	for i := range int64(3) {
		if err := q.QueryRow(ctx, "select $1::bigint", i).Scan(&n); err != nil {
			return err
		}
	}
	return nil
}

// BeginFunc is a transaction with pgx.BeginFunc on the library's pool, whose statistics everything that runs there pays for:
// what Do costs beside it is the transaction's own price.
func BeginFunc() Contender {
	return Contender{"BeginFunc", func(ctx context.Context, env Env) (*Client, error) {
		db, err := openDB(ctx, env)
		if err != nil {
			return nil, err
		}
		return beginFunc(db.Pool(), func() { _ = db.Close(context.Background()) }), nil
	}}
}

// BeginFuncPlain is a transaction with pgx.BeginFunc on a pool as pgx makes it.
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

// Do is a transaction with txn.Manager.Do, whose options say what happens to a COMMIT whose answer is lost.
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
