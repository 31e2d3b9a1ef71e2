package txn_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

const benchStatement = "select $1::int"

func three(ctx context.Context, b *testing.B, q dbtx) error {
	b.Helper()
	for i := range 3 {
		if _, err := q.Exec(ctx, benchStatement, i); err != nil {
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
			err := pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error { return three(ctx, b, tx) })
			require.NoError(b, err)
		}
	})
	bench := func(name string, m *txn.Manager, opts ...txn.Option) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				err := m.Do(ctx, func(ctx context.Context) error { return three(ctx, b, m) }, opts...)
				require.NoError(b, err)
			}
		})
	}
	bench("Do/Unresolved", managerOf(b, db, txn.WithDefaults(txn.Outcome(txn.Unresolved))))
	bench("Do/ReadOnly", managerOf(b, db, txn.WithDefaults(txn.ReadOnly())))
	bench("Do/ByWitness", managerOf(b, db))
	bench("Do/ByMarker", managerOf(b, db, txn.WithDefaults(txn.Outcome(txn.ByMarker))))
}
