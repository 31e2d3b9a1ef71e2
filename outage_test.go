package rdsfx_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// item is a row of the table items.
type item struct {
	ID   int    `db:"id,pk"`
	Note string `db:"note"`
}

// waitingCalls are calls that need a connection, in every form that the library has.
func waitingCalls(db *pgfx.DB, tx *txn.Manager, items *repo.Repository[item, int]) map[string]func(ctx context.Context) error {
	const sql = "insert into items values (1, 'a') returning id"
	pool, rows, columns := db.Pool(), []item{{ID: 1}, {ID: 2}}, []string{"id", "note"}
	source := func() pgx.CopyFromSource { return pgx.CopyFromRows([][]any{{1, "a"}}) }
	batch := func() *pgx.Batch {
		b := &pgx.Batch{}
		b.Queue(sql)
		return b
	}
	exec := func(ctx context.Context) error { _, err := tx.Exec(ctx, sql); return err }
	return map[string]func(ctx context.Context) error{
		"pool Exec":      func(ctx context.Context) error { _, err := pool.Exec(ctx, sql); return err },
		"pool QueryRow":  func(ctx context.Context) error { return pool.QueryRow(ctx, sql).Scan(new(int)) },
		"pool SendBatch": func(ctx context.Context) error { return pool.SendBatch(ctx, batch()).Close() },
		"pool CopyFrom": func(ctx context.Context) error {
			_, err := pool.CopyFrom(ctx, pgx.Identifier{"items"}, columns, source())
			return err
		},
		"pool Begin":      func(ctx context.Context) error { _, err := pool.Begin(ctx); return err },
		"DB SQL":          func(ctx context.Context) error { _, err := db.SQL().ExecContext(ctx, sql); return err },
		"manager Exec":    exec,
		"manager Query":   func(ctx context.Context) error { rows, err := tx.Query(ctx, sql); return errors.Join(err, rows.Err()) },
		"manager Scan":    func(ctx context.Context) error { return tx.QueryRow(ctx, sql).Scan(new(int)) },
		"manager Batch":   func(ctx context.Context) error { return tx.SendBatch(ctx, batch()).Close() },
		"manager SQL":     func(ctx context.Context) error { _, err := tx.SQL().ExecContext(ctx, sql); return err },
		"manager SQL Tx":  func(ctx context.Context) error { _, err := tx.SQL().BeginTx(ctx, nil); return err },
		"manager Acquire": func(ctx context.Context) error { return tx.AcquireFunc(ctx, nil) },
		"manager CopyFrom": func(ctx context.Context) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"items"}, columns, source())
			return err
		},
		"Do":            func(ctx context.Context) error { return tx.Do(ctx, exec) },
		"Do with Retry": func(ctx context.Context) error { return tx.Do(ctx, exec, txn.Retry(pgfx.RetryPolicy{})) },
		"DoBatch": func(ctx context.Context) error {
			return tx.DoBatch(ctx, func(b *pgx.Batch) { b.Queue(sql) }, func(r pgx.BatchResults) error { return r.Close() })
		},
		"session lock": func(ctx context.Context) error { return tx.WithSessionLock(ctx, "key", exec) },
		"Retry": func(ctx context.Context) error {
			return pgfx.Retry(ctx, db.RetryPolicy(), func(ctx context.Context) error { _, err := pool.Exec(ctx, sql); return err })
		},
		"Get":        func(ctx context.Context) error { _, err := items.Get(ctx, 1); return err },
		"GetMany":    func(ctx context.Context) error { _, err := items.GetMany(ctx, []int{1, 2}); return err },
		"Find":       func(ctx context.Context) error { _, err := items.Find(ctx); return err },
		"Count":      func(ctx context.Context) error { _, err := items.Count(ctx); return err },
		"Create":     func(ctx context.Context) error { return items.Create(ctx, &item{ID: 1}) },
		"Update":     func(ctx context.Context) error { return items.Update(ctx, &item{ID: 1}) },
		"Delete":     func(ctx context.Context) error { return items.Delete(ctx, 1) },
		"Upsert":     func(ctx context.Context) error { _, err := items.Upsert(ctx, &item{ID: 1}); return err },
		"CreateMany": func(ctx context.Context) error { return items.CreateMany(ctx, slices.Clone(rows)) },
		"UpdateMany": func(ctx context.Context) error { return items.UpdateMany(ctx, slices.Clone(rows)) },
		"UpsertMany": func(ctx context.Context) error { _, err := items.UpsertMany(ctx, slices.Clone(rows)); return err },
		"DeleteMany": func(ctx context.Context) error { _, err := items.DeleteMany(ctx, []int{1, 2}); return err },
		"CopyMany":   func(ctx context.Context) error { _, err := items.CopyMany(ctx, slices.Clone(rows)); return err },
		"Import": func(ctx context.Context) error {
			_, err := items.Import(ctx, iter.Seq2[item, error](func(yield func(item, error) bool) { yield(rows[0], nil) }))
			return err
		},
		"All": func(ctx context.Context) error {
			for _, err := range items.All(ctx) {
				return err
			}
			return nil
		},
		"batch of reads": func(ctx context.Context) error { var b repo.Batch; items.In(&b).Get(1); return b.Send(ctx) },
		"batch of writes": func(ctx context.Context) error {
			var b repo.Batch
			items.In(&b).Create(&item{ID: 1})
			return b.Send(ctx)
		},
		"repo.Query": func(ctx context.Context) error { _, err := repo.Query[item](ctx, tx, sql); return err },
	}
}

// The errors of package pgfx alone are tested there.
func TestOutage_EveryCallReturnsTheDeadlineAndTheCause(t *testing.T) {
	t.Parallel()
	cfg := pgfx.Config{URL: fxtest.URL(t, fxtest.SQL("create table items (id int primary key, note text not null)"))}
	cfg.Pool.MaxConns, cfg.Pool.AcquireTimeout = 1, time.Hour
	db, err := pgfx.Open(cfg)
	require.NoError(t, err)
	require.NoError(t, db.Start(t.Context()))
	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, errors.Join(tx.Close(context.Background()), db.Close(context.Background())))
	}()
	items, err := repo.New[item, int](tx, "items")
	require.NoError(t, err)

	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	type result struct {
		call string
		err  error
	}
	calls := waitingCalls(db, tx, items)
	results := make(chan result, len(calls))
	ctx, expire := testctx.Expiring(t.Context())
	for name, call := range calls {
		go func() { results <- result{name, call(ctx)} }()
	}
	require.Eventually(t, func() bool { return db.Stats().Pool.Waiting == len(calls) }, time.Minute, time.Millisecond)
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	db.Internals().Gate().Close(refused)
	expire()
	for range calls {
		r := <-results
		require.ErrorIs(t, r.err, context.DeadlineExceeded, r.call)
		var unavailable *pgfx.UnavailableError
		require.ErrorAs(t, r.err, &unavailable, r.call)
		var cause *net.OpError
		require.ErrorAs(t, r.err, &cause, r.call)
	}
	for name, call := range calls {
		if strings.Contains(name, "SQL") || name == "session lock" {
			continue // database/sql does not call the driver after the deadline, and the lock has its connection outside the pool
		}
		err := call(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "%s after the deadline", name)
		require.ErrorIs(t, err, pgfx.ErrUnavailable, "%s after the deadline", name)
	}
}
