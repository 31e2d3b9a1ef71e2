package contest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// pools are bare pools: pgxpool, ours, ours without watching, and pgxpool with the tracer that people write for a histogram.
func pools() []Contender {
	return []Contender{
		{"pgxpool", func(ctx context.Context, env Env) (*Client, error) {
			pool, err := plainPool(ctx, env)
			if err != nil {
				return nil, err
			}
			return poolClient(ctx, pool, pool.Close)
		}},
		watchedPool("rdsfx", pgfx.WatchConfig{}),
		watchedPool("unwatched", pgfx.WatchConfig{Disabled: true}),
		{"own-histogram", func(ctx context.Context, env Env) (*Client, error) {
			cfg, err := pgxpool.ParseConfig(env.URL)
			if err != nil {
				return nil, err
			}
			cfg.MaxConns = PoolSize
			if env.Dial != nil {
				cfg.ConnConfig.DialFunc = env.Dial
			}
			cfg.ConnConfig.Tracer = &histogram{}
			pool, err := pgxpool.NewWithConfig(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return poolClient(ctx, pool, pool.Close)
		}},
	}
}

func watchedPool(name string, watch pgfx.WatchConfig) Contender {
	return Contender{name, func(ctx context.Context, env Env) (*Client, error) {
		cfg := pgfx.Config{URL: env.URL, Pool: pgfx.PoolConfig{MaxConns: PoolSize}, Watch: watch}
		db, err := openWith(ctx, env, cfg)
		if err != nil {
			return nil, err
		}
		return poolClient(ctx, db.Pool(), func() { _ = db.Close(context.Background()) })
	}}
}

// poolClient holds one connection for its statements and leaves the others to be acquired.
func poolClient(ctx context.Context, pool *pgxpool.Pool, closeAll func()) (*Client, error) {
	held, err := pool.Acquire(ctx)
	if err != nil {
		closeAll()
		return nil, err
	}
	return &Client{
		Acquire: func(ctx context.Context) error {
			conn, err := pool.Acquire(ctx)
			if err == nil {
				conn.Release()
			}
			return err
		},
		Statement: func(ctx context.Context) error {
			_, err := held.Exec(ctx, "select 1")
			return err
		},
		Result: func() any { return nil },
		Close: func() {
			held.Release()
			closeAll()
		},
	}, nil
}

// histogram is what a histogram of the statements' times takes at least.
type histogram struct {
	buckets [32]atomic.Int64
}

type startedKey struct{}

// TraceQueryStart notes the time.
func (h *histogram) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, startedKey{}, time.Now())
}

// TraceQueryEnd counts the time since.
func (h *histogram) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	started, _ := ctx.Value(startedKey{}).(time.Time)
	h.buckets[bucket(time.Since(started))].Add(1)
}

func bucket(d time.Duration) int {
	n := 0
	for d > time.Microsecond && n < 31 {
		d /= 2
		n++
	}
	return n
}
