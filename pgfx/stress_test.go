package pgfx_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestStats_AreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	const workers, rounds, capacity = 8, 60, 16
	cfg := serverConfig()
	cfg.Pool.MaxConns = 4
	cfg.Stats = pgfx.StatsConfig{Statements: capacity, Slow: time.Microsecond, LongLease: time.Millisecond}
	db := started(t, cfg)
	base := db.Stats()

	done := make(chan struct{})
	var readers, work sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				assert.LessOrEqual(t, len(db.Statements()), capacity)
				assert.LessOrEqual(t, len(db.Slow()), 100)
				assert.LessOrEqual(t, len(db.Leases()), 4)
				assert.GreaterOrEqual(t, db.Stats().Pool.Waiting, 0)
			}
		})
	}
	for worker := range workers {
		work.Go(func() {
			ctx := context.Background()
			for i := range rounds {
				_, err := db.Pool().Exec(ctx, fmt.Sprintf("select %d as c%d_%d", i, worker, i))
				_, err2 := db.Pool().Exec(ctx, "select $1::int", i)
				err3 := db.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
					batch := &pgx.Batch{}
					batch.Queue("select 1")
					batch.Queue("select $1::text", "x")
					return conn.SendBatch(ctx, batch).Close()
				})
				assert.NoError(t, errors.Join(err, err2, err3)) //nolint:testifylint // not in the test's goroutine
				if i%20 == 0 {
					db.Reset()
				}
			}
		})
	}
	work.Wait()
	close(done)
	readers.Wait()

	s := db.Stats()
	assert.EqualValues(t, 3*workers*rounds, s.Statements.Count-base.Statements.Count)
	assert.EqualValues(t, 3*workers*rounds, s.Use.Count-base.Use.Count)
	assert.EqualValues(t, 3*workers*rounds, s.Pool.Acquired-base.Pool.Acquired)
	assert.Zero(t, s.Pool.Waiting)
	assert.Zero(t, s.Statements.Errors)
	assert.Len(t, db.Statements(), capacity)
	assert.GreaterOrEqual(t, s.Statements.Evicted, int64(workers*rounds-capacity))
	assert.Empty(t, db.Leases())
	assert.EqualValues(t, workers*rounds, statementOf(t, db, "select ?::int").Count, "the text with the largest total is never evicted")
}
