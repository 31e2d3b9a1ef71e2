package benchmarks_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	trmpgx "github.com/avito-tech/go-transaction-manager/drivers/pgxv5/v2"
	"github.com/avito-tech/go-transaction-manager/trm/v2/manager"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/replay"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// wire is a dialer that counts writes; each round trip has one.
type wire struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	trips atomic.Int64
}

type wireConn struct {
	net.Conn

	trips *atomic.Int64
}

func (c wireConn) Write(data []byte) (int, error) {
	c.trips.Add(1)
	return c.Conn.Write(data)
}

func (w *wire) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return wireConn{conn, &w.trips}, nil
}

// transactions returns turns that run a transaction around three statements. They use pgx.BeginFunc on both pools, a popular
// manager on the plain pool, and Do. The last three also set three timeouts.
func transactions(b *testing.B, url string, w *wire, maxConns int) (turns []turn, closeAll func()) {
	b.Helper()
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		b.Fatal(err)
	}
	cfg.MaxConns, cfg.ConnConfig.DialFunc = int32(maxConns), w.Dial
	plain, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	db, err := pgfx.Open(pgfx.Config{URL: url, Pool: pgfx.PoolConfig{MaxConns: maxConns}}, pgfx.WithBeforeConnect(
		func(_ context.Context, config *pgx.ConnConfig) error { config.DialFunc = w.Dial; return nil },
	))
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Start(ctx); err != nil {
		b.Fatal(err)
	}
	var managers []*txn.Manager
	popular := manager.Must(trmpgx.NewDefaultFactory(plain))
	const timeouts = "select set_config('statement_timeout', '5000', true), set_config('lock_timeout', '1000', true), " +
		"set_config('idle_in_transaction_session_timeout', '60000', true)"
	begin := func(pool *pgxpool.Pool) func() error {
		return func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return contest.ThreeStatements(ctx, tx) })
		}
	}
	do := func(opts ...txn.Option) func() error {
		m, err := txn.NewManager(db, txn.WithDefaults(opts...))
		if err != nil {
			b.Fatal(err)
		}
		managers = append(managers, m)
		return func() error {
			return m.Do(ctx, func(ctx context.Context) error { return contest.ThreeStatements(ctx, m) })
		}
	}
	set := []txn.Option{txn.StatementTimeout(5 * time.Second), txn.LockTimeout(time.Second), txn.IdleTimeout(time.Minute)}
	turns = []turn{
		{"BeginFunc", begin(db.Pool())},
		{"BeginFunc-plain", begin(plain)},
		{"popular-plain", func() error {
			return popular.Do(ctx, func(ctx context.Context) error {
				return contest.ThreeStatements(ctx, trmpgx.DefaultCtxGetter.DefaultTrOrDB(ctx, plain))
			})
		}},
		{"Do-unresolved", do(txn.ResolveCommit(txn.Unresolved))},
		{"Do-readonly", do(txn.ReadOnly())},
		{"Do-witness", do()},
		{"Do-marker", do(txn.ResolveCommit(txn.ByMarker))},
		{"BeginFunc-timeouts", func() error {
			return pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, timeouts); err != nil {
					return err
				}
				return contest.ThreeStatements(ctx, tx)
			})
		}},
		{"Do-unresolved-timeouts", do(append(set, txn.ResolveCommit(txn.Unresolved))...)},
		{"Do-witness-timeouts", do(set...)},
	}
	return turns, func() {
		for _, m := range managers {
			_ = m.Close(ctx)
		}
		_ = db.Close(ctx)
		plain.Close()
	}
}

// BenchmarkTransaction measures transactions around three trivial statements. For each it reports the time relative to
// pgx.BeginFunc on the library's pool, the additional allocations and the round trips. It runs once with replayed replies, which
// shows the cost of the client, and once on a real server.
func BenchmarkTransaction(b *testing.B) {
	ctx := context.Background()
	server, err := embedded.Start(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(ctx) })
	b.Run("live", func(b *testing.B) {
		runTransactions(b, server.URL(), &wire{dial: new(net.Dialer).DialContext}, 1, 20)
	})
	const conns = 4 // more than needed, so that the pool is not exhausted; the live run uses one server process for all
	b.Run("replay", func(b *testing.B) {
		tape := replay.New(nil)
		w := &wire{dial: tape.Dial}
		recordTransactions(b, server.URL(), w, conns)
		tape.Play()
		runTransactions(b, server.URL(), w, conns, 200)
		if err := tape.Err(); err != nil {
			b.Fatal(err)
		}
	})
}

// recordTransactions runs the turns on new connections, starting once with each turn. The statements that a batch prepares depend
// on those that its connection prepared before.
func recordTransactions(b *testing.B, url string, w *wire, maxConns int) {
	b.Helper()
	for first, n := 0, 1; first < n; first++ {
		turns, closeAll := transactions(b, url, w, maxConns)
		n = len(turns)
		for i := range 3 * n {
			t := turns[(first+i)%n]
			if err := t.op(); err != nil {
				b.Fatalf("%s: %v", t.name, err)
			}
		}
		closeAll()
	}
}

func runTransactions(b *testing.B, url string, w *wire, maxConns, runs int) {
	b.Helper()
	turns, closeAll := transactions(b, url, w, maxConns)
	defer closeAll()
	trips := make([]int64, len(turns))
	for range 3 { // the first calls prepare statements and create a table
		for i, t := range turns {
			before := w.trips.Load()
			if err := t.op(); err != nil {
				b.Fatalf("%s: %v", t.name, err)
			}
			trips[i] = w.trips.Load() - before
		}
	}
	results := measureInTurns(b, turns, runs)
	for i, t := range turns {
		b.ReportMetric(results[i].ratio(&results[0]), t.name+"-ratio")
		b.ReportMetric(results[i].allocs-results[0].allocs, t.name+"-more-allocs/op")
		b.ReportMetric(float64(trips[i]), t.name+"-trips/op")
	}
	b.ReportMetric(results[0].median(), "BeginFunc-ns/op")
	b.ReportMetric(results[0].allocs, "BeginFunc-allocs/op")
}
