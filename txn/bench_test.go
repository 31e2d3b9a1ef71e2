package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

func three(ctx context.Context, q dbtx) error {
	for i := range 3 {
		if _, err := q.Exec(ctx, "select $1::int", i); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkTransaction measures a transaction around three statements: pgx's own BeginFunc and Do, side by side.
func BenchmarkTransaction(b *testing.B) {
	db := newDB(b)
	ctx := b.Context()
	b.Run("pgx.BeginFunc", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error { return three(ctx, tx) }))
		}
	})
	bench := func(name string, opts ...txn.Option) {
		m := managerOf(b, db, txn.WithDefaults(opts...))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, m.Do(ctx, func(ctx context.Context) error { return three(ctx, m) }))
			}
		})
	}
	bench("Do/Unresolved", txn.Outcome(txn.Unresolved))
	bench("Do/ReadOnly", txn.ReadOnly())
	bench("Do/ByWitness")
	bench("Do/ByMarker", txn.Outcome(txn.ByMarker))
}

// BenchmarkOverhead runs BeginFunc and Do in turn, so that both meet the same noise, and reports the ratio of their times.
func BenchmarkOverhead(b *testing.B) {
	db := newDB(b, maxConns(1))
	ctx := b.Context()
	for name, by := range map[string]txn.Resolution{"Unresolved": txn.Unresolved, "ByWitness": txn.ByWitness} {
		b.Run(name, func(b *testing.B) {
			m := managerOf(b, db, txn.WithDefaults(txn.Outcome(by)))
			var anchor, own time.Duration
			for b.Loop() {
				began := time.Now()
				require.NoError(b, pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error { return three(ctx, tx) }))
				between := time.Now()
				require.NoError(b, m.Do(ctx, func(ctx context.Context) error { return three(ctx, m) }))
				anchor, own = anchor+between.Sub(began), own+time.Since(between)
			}
			b.ReportMetric(float64(own)/float64(anchor), "ratio")
		})
	}
}
