package ormtest_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: river
// RiverTables is the setup step for River's tables. River's migrator does not lock, so the step does.
func RiverTables() pgfx.SetupStep {
	return pgfx.SetupStep{Name: "River's tables", Run: func(ctx context.Context, db *pgfx.DB) error {
		return migrate.Locked(ctx, db, "river", func(ctx context.Context) error {
			migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool()), nil)
			if err != nil {
				return fmt.Errorf("river: %w", err)
			}
			_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
	}}
}

// docs: end

type greeting struct {
	Name string `json:"name"`
}

func (greeting) Kind() string { return "greeting" }

func TestRiver_EnqueuesInTransaction(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Pool(pgfx.WithSetup(RiverTables())))
	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Close(context.WithoutCancel(t.Context()))) }()
	client, err := river.NewClient(riverpgxv5.New(db.Pool()), &river.Config{})
	require.NoError(t, err)
	enqueue := func(ctx context.Context) error {
		current, ok := tx.Tx(ctx)
		require.True(t, ok)
		_, err := client.InsertTx(ctx, current, greeting{Name: "Ada"}, nil)
		return err
	}
	require.ErrorIs(t, tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, enqueue(ctx))
		return assert.AnError
	}), assert.AnError)
	require.NoError(t, tx.Do(t.Context(), enqueue))
	var jobs int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from river_job").Scan(&jobs))
	assert.Equal(t, 1, jobs, "the job of the rolled back transaction is gone")
}

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
		worker := &greetWorker{worked: make(chan string, jobs)}
		workers := river.NewWorkers()
		river.AddWorker(workers, worker)
		client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
			ID: fmt.Sprintf("client-%d", round), Workers: workers,
			Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 8}},
			FetchPollInterval: time.Hour, // only notifications make it fetch
		})
		require.NoError(t, err)
		require.NoError(t, client.Start(t.Context()))
		require.Eventually(t, func() bool {
			var listening, leading int
			err := db.Pool().QueryRow(t.Context(), `select
				(select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'),
				(select count(*) from river_leader where leader_id = $1)`, client.ID()).Scan(&listening, &leading)
			return err == nil && listening > 0 && leading == 1
		}, waitLimit, time.Millisecond, "the client listens and leads")

		for i := range jobs {
			require.NoError(t, tx.Do(t.Context(), func(ctx context.Context) error {
				current, _ := tx.Tx(ctx)
				_, err := client.InsertTx(ctx, current, greeting{Name: strconv.Itoa(i)}, nil)
				return err
			}))
		}
		done := map[string]bool{}
		for range jobs {
			select {
			case name := <-worker.worked:
				done[name] = true
			case <-time.After(waitLimit):
				require.Fail(t, "jobs were not worked on")
			}
		}
		assert.Len(t, done, jobs)
		require.NoError(t, client.Stop(t.Context()))
		require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, waitLimit, time.Millisecond)
	}
}
