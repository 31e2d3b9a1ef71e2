package contest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// pools returns pools for measuring statements and acquires: pgxpool, the library's pool with and without statistics, and
// pgxpool with a hand-written tracer for a histogram.
func pools() []Contender {
	return []Contender{
		{"pgxpool", func(ctx context.Context, env Env) (*Client, error) {
			pool, err := plainPool(ctx, env)
			if err != nil {
				return nil, err
			}
			return poolClient(pool, pool.Close), nil
		}},
		statsPool(library, pgfx.StatsConfig{}),
		statsPool("no-statistics", pgfx.StatsConfig{Disabled: true}),
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
			return poolClient(pool, pool.Close), nil
		}},
	}
}

func statsPool(name string, stats pgfx.StatsConfig) Contender {
	return Contender{name, func(ctx context.Context, env Env) (*Client, error) {
		cfg := pgfx.Config{URL: env.URL, Pool: pgfx.PoolConfig{MaxConns: PoolSize}, Stats: stats}
		db, err := openWith(ctx, env, cfg)
		if err != nil {
			return nil, err
		}
		return poolClient(db.Pool(), func() { _ = db.Close(context.Background()) }), nil
	}}
}

func poolClient(pool *pgxpool.Pool, closeAll func()) *Client {
	var held *pgxpool.Conn // by Statement
	return &Client{
		Acquire: func(ctx context.Context) error {
			conn, err := pool.Acquire(ctx)
			if err == nil {
				conn.Release()
			}
			return err
		},
		Statement: func(ctx context.Context) (err error) {
			if held == nil {
				if held, err = pool.Acquire(ctx); err != nil {
					return err
				}
			}
			_, err = held.Exec(ctx, "select 1")
			return err
		},
		Result: func() any { return nil },
		Close: func() {
			if held != nil {
				held.Release()
			}
			closeAll()
		},
	}
}

// histogram is a minimal histogram of statement times.
type histogram struct {
	buckets [32]atomic.Int64
}

type startedKey struct{}

// TraceQueryStart records the start time.
func (h *histogram) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, startedKey{}, time.Now())
}

// TraceQueryEnd records the duration.
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
