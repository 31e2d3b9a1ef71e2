package main

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

type greeting struct {
	Name string `json:"name"`
}

func (greeting) Kind() string { return "greeting" }

// greetWorker counts the jobs that it works on.
type greetWorker struct {
	river.WorkerDefaults[greeting]

	worked chan string
}

func (w *greetWorker) Work(_ context.Context, job *river.Job[greeting]) error {
	w.worked <- job.Args.Name
	return nil
}

func TestRiver_WorksOnThePool(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Pool(pgfx.WithSetup(RiverTables())), fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: maxConns}}))
	workJobs(t, db, db.Pool())
	assert.Empty(t, db.Leases(), "the listener's connection is not one of the pool")
	assert.LessOrEqual(t, db.Stats().Pool.Connected, int64(2*maxConns*riverRounds), "released connections stay open")
}

// River's test helper and applications copy the configuration of a pool.
func TestRiver_WorksOnACopyOfThePool(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Pool(pgfx.WithSetup(RiverTables())), fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: maxConns}}))
	own, err := pgxpool.NewWithConfig(t.Context(), db.Pool().Config())
	require.NoError(t, err)
	defer own.Close()
	before := db.Stats().Pool.Connected
	workJobs(t, db, own)
	assert.LessOrEqual(t, own.Stat().NewConnsCount(), int64(2*maxConns*riverRounds), "released connections stay open")
	assert.LessOrEqual(t, db.Stats().Pool.Connected-before, int64(maxConns), "those of the copy are not counted")
}

const maxConns, riverRounds = 2, 3

// workJobs enqueues jobs in transactions of db and works on them with clients on pool. A client takes a connection out of the pool for
// LISTEN, and waits for notifications with short deadlines.
func workJobs(t *testing.T, db *pgfx.DB, pool *pgxpool.Pool) {
	t.Helper()
	const jobs, waitLimit = 100, 30 * time.Second
	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Close(context.WithoutCancel(t.Context()))) }()
	for round := range riverRounds {
		worker := &greetWorker{worked: make(chan string, 10*jobs)}
		workers := river.NewWorkers()
		river.AddWorker(workers, worker)
		client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
			ID: fmt.Sprintf("client-%d", round), Workers: workers,
			Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 8}},
			FetchPollInterval: time.Hour, // only notifications make it fetch
		})
		require.NoError(t, err)
		require.NoError(t, client.Start(t.Context()))
		enqueue := func(name string) {
			require.NoError(t, tx.Do(t.Context(), func(ctx context.Context) error {
				current, _ := tx.Tx(ctx)
				_, err := client.InsertTx(ctx, current, greeting{Name: name}, nil)
				return err
			}))
		}
		require.Eventually(t, func() bool {
			enqueue("first") // until the client has subscribed to notifications
			select {
			case <-worker.worked:
				return true
			case <-time.After(100 * time.Millisecond):
				return false
			}
		}, waitLimit, time.Millisecond)

		for i := range jobs {
			enqueue(strconv.Itoa(i))
		}
		done := map[string]bool{}
		for len(done) < jobs {
			select {
			case name := <-worker.worked:
				if name != "first" {
					done[name] = true
				}
			case <-time.After(waitLimit):
				require.Fail(t, "jobs were not worked on")
			}
		}
		require.NoError(t, client.Stop(t.Context()))
		require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, waitLimit, time.Millisecond)
	}
}
