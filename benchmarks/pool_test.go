package benchmarks_test

import (
	"context"
	"testing"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
)

// poolContender is a pool under comparison.
type poolContender struct {
	name string
	pool *pgxpool.Pool
	ctx  context.Context //nolint:containedctx // of the statements: with a sampled span, if the contender makes traces
}

// poolContenders returns a plain pool, and the library's pool without and with statistics. The contender all-stacks has a single
// connection: its pool is always exhausted, so it records the stack of every acquire. The others have telemetry into memory, with
// pgfx/telemetry and, for comparison, with otelpgx on a plain pool. Contenders with traces run in a sampled span.
func poolContenders(b *testing.B) []poolContender {
	b.Helper()
	ctx := context.Background()
	server, err := embedded.Start(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(ctx) })
	cfg, err := pgxpool.ParseConfig(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	cfg.MaxConns = 4
	plain, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(plain.Close)
	library := func(maxConns int, stats pgfx.StatsConfig) *pgxpool.Pool {
		db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Pool: pgfx.PoolConfig{MaxConns: maxConns}, Stats: stats})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close(ctx) })
		if err := db.Start(ctx); err != nil {
			b.Fatal(err)
		}
		return db.Pool()
	}
	metrics, traces := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())), sdktrace.NewTracerProvider()
	observed := func(opts ...telemetry.Option) *pgxpool.Pool {
		d, err := rdsfx.Open(pgfx.Config{URL: server.URL(), Pool: pgfx.PoolConfig{MaxConns: 4}})
		if err != nil {
			b.Fatal(err)
		}
		stop, err := telemetry.Observe(d, append(opts, telemetry.WithMeterProvider(metrics))...)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = d.Close(ctx); stop() })
		if err := d.Start(ctx); err != nil {
			b.Fatal(err)
		}
		return d.DB.Pool()
	}
	withOtelpgx := func(tracers trace.TracerProvider) *pgxpool.Pool {
		traced := cfg.Copy()
		traced.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithMeterProvider(metrics), otelpgx.WithTracerProvider(tracers))
		pool, err := pgxpool.NewWithConfig(ctx, traced)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(pool.Close)
		return pool
	}
	sampled, span := traces.Tracer("benchmark").Start(ctx, "request")
	b.Cleanup(func() { span.End() })
	return []poolContender{
		{"plain", plain, ctx},
		{"no-statistics", library(4, pgfx.StatsConfig{Disabled: true}), ctx},
		{"statistics", library(4, pgfx.StatsConfig{}), ctx},
		{"all-stacks", library(1, pgfx.StatsConfig{}), ctx},
		{"metrics", observed(telemetry.WithTracerProvider(noop.NewTracerProvider())), ctx},
		{"otelpgx-metrics", withOtelpgx(noop.NewTracerProvider()), ctx},
		{"metrics-and-traces", observed(telemetry.WithTracerProvider(traces)), sampled},
		{"otelpgx-metrics-and-traces", withOtelpgx(traces), sampled},
	}
}

// comparePools measures the contenders in turn. It reports the median of each and the difference to the first.
func comparePools(b *testing.B, contenders []poolContender, runs int, op func(ctx context.Context, pool *pgxpool.Pool) error) {
	b.Helper()
	turns := make([]turn, len(contenders))
	for i, c := range contenders {
		turns[i] = turn{c.name, func() error { return op(c.ctx, c.pool) }}
	}
	results := measureInTurns(b, turns, runs)
	first := results[0].median()
	for i, c := range contenders {
		median := results[i].median()
		b.ReportMetric(median, c.name+"-ns/op")
		b.ReportMetric(float64(int(results[i].allocs)), c.name+"-allocs/op")
		if i > 0 {
			b.ReportMetric(median-first, c.name+"-more-ns/op")
		}
	}
}

// BenchmarkPoolAcquire acquires and releases a connection.
func BenchmarkPoolAcquire(b *testing.B) {
	comparePools(b, poolContenders(b), 1000, func(ctx context.Context, pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx)
		if err == nil {
			conn.Release()
		}
		return err
	})
}

// BenchmarkPoolStatement runs one statement on an acquired connection, without the acquire.
func BenchmarkPoolStatement(b *testing.B) {
	ctx := context.Background()
	contenders := poolContenders(b)
	held := make(map[*pgxpool.Pool]*pgxpool.Conn, len(contenders))
	for _, c := range contenders {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(conn.Release) // before the pools are closed
		held[c.pool] = conn
	}
	comparePools(b, contenders, 100, func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := held[pool].Exec(ctx, "select 1")
		return err
	})
}

// BenchmarkPoolTracer measures the tracer of one statement without the statement, whose network and server time would hide it.
func BenchmarkPoolTracer(b *testing.B) {
	ctx := context.Background()
	contenders := poolContenders(b)
	done := pgconn.NewCommandTag("SELECT 1")
	held := make(map[*pgxpool.Pool]*pgx.Conn, len(contenders))
	tracers := make(map[*pgxpool.Pool]pgx.QueryTracer, len(contenders))
	for _, c := range contenders {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(conn.Release)
		held[c.pool], tracers[c.pool] = conn.Conn(), c.pool.Config().ConnConfig.Tracer
	}
	comparePools(b, contenders, 1000, func(ctx context.Context, pool *pgxpool.Pool) error {
		conn, tracer := held[pool], tracers[pool]
		if tracer == nil {
			return nil
		}
		ctx = tracer.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: "select id, name, email from users where id = $1"})
		tracer.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: done})
		return nil
	})
}

// BenchmarkPoolExec runs one statement on the pool: an acquire, the statement, a release.
func BenchmarkPoolExec(b *testing.B) {
	comparePools(b, poolContenders(b), 100, func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, "select 1")
		return err
	})
}
