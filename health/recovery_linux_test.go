package health_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// BenchmarkRecovery measures how long it takes until a statement succeeds again, beside a plain pgxpool on the same address:
// from the fault where the server stays reachable, else from the fault's end. One caller tries without a pause, with a
// second for each statement; the pool has four connections, all open and idle when the fault begins, which lasts three
// seconds. Everything else is default. The table of docs/recovery.md is printed by
//
//	go test ./health -run '^$' -bench Recovery -benchtime 3x
func BenchmarkRecovery(b *testing.B) {
	const lasting = 3 * time.Second
	for _, fault := range []struct {
		name  string
		begin func(*testing.B) (end func(), config pgfx.Config, start func())
	}{
		{"half_open", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			p := newProxy(b)
			return nil, address(p), func() { p.freeze(false) }
		}},
		{"black_hole", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			p := newProxy(b)
			return p.thaw, address(p), func() { p.freeze(true) }
		}},
		{"refused", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			p := newProxy(b)
			return func() { p.accept(b) }, address(p), p.refuse
		}},
		{"accepts_and_kills", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			p := newProxy(b)
			return p.thaw, address(p), p.kill
		}},
		{"killed_and_restarted", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			own := ownServer(b)
			return func() { require.NoError(b, own.Start(b.Context())) }, pgfx.Config{URL: own.URL()},
				func() { signal(b, syscall.SIGKILL, own.PID()) }
		}},
		{"frozen", func(b *testing.B) (end func(), config pgfx.Config, start func()) {
			b.Helper()
			own := ownServer(b)
			frozen := processes(b, own.PID())
			return func() { signal(b, syscall.SIGCONT, frozen...) }, pgfx.Config{URL: own.URL()},
				func() {
					frozen = processes(b, own.PID()) // the pools' backends too
					signal(b, syscall.SIGSTOP, frozen...)
				}
		}},
	} {
		for _, pool := range []struct {
			name string
			open func(*testing.B, pgfx.Config) *pgxpool.Pool
		}{{"rdsfx", monitored}, {"pgxpool", plain}} {
			b.Run(fault.name+"/"+pool.name, func(b *testing.B) {
				var total time.Duration
				for range b.N {
					end, config, begin := fault.begin(b)
					p := pool.open(b, config)
					fill(b, p)
					begin()
					began := time.Now()
					if end != nil {
						for time.Since(began) < lasting {
							_ = attempt(p)
						}
						end()
						began = time.Now()
					}
					for attempt(p) != nil && time.Since(began) < time.Minute {
						continue
					}
					total += time.Since(began)
				}
				b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/recovery")
				b.ReportMetric(0, "ns/op") // means nothing here
			})
		}
	}
}

func address(p *proxy) pgfx.Config {
	config := pgfx.Config{Database: "postgres"}
	through(p)(&config)
	return config
}

const benchmarkConns = 4

func monitored(b *testing.B, config pgfx.Config) *pgxpool.Pool {
	b.Helper()
	config.Pool.MaxConns = benchmarkConns
	db, err := pgfx.Open(config)
	require.NoError(b, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(b, err)
	require.NoError(b, db.Start(b.Context()))
	require.NoError(b, monitor.Start(b.Context()))
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = monitor.Stop(ctx)
		_ = db.Close(ctx)
	})
	return db.Pool()
}

func plain(b *testing.B, config pgfx.Config) *pgxpool.Pool {
	b.Helper()
	db, err := pgfx.Open(config) // turns the Config into pgx's; nothing else of it is used
	require.NoError(b, err)
	settings, err := pgxpool.ParseConfig(db.Pool().Config().ConnString())
	require.NoError(b, err)
	require.NoError(b, db.Close(b.Context()))
	settings.MaxConns = benchmarkConns
	pool, err := pgxpool.NewWithConfig(b.Context(), settings)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	return pool
}

// fill opens all connections of a pool.
func fill(b *testing.B, pool *pgxpool.Pool) {
	b.Helper()
	var conns []*pgxpool.Conn
	for range benchmarkConns {
		conn, err := pool.Acquire(b.Context())
		require.NoError(b, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Release()
	}
}

func attempt(pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := pool.Exec(ctx, "select 1")
	return err
}

// BenchmarkLook says what a look costs; its allocations stay the same however many there have been.
func BenchmarkLook(b *testing.B) {
	db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Health: pgfx.HealthConfig{Interval: never}})
	require.NoError(b, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(b, err)
	require.NoError(b, db.Start(b.Context()))
	require.NoError(b, monitor.Start(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := monitor.CheckNow(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	require.NoError(b, monitor.Stop(context.Background()))
	require.NoError(b, db.Close(context.Background()))
}
