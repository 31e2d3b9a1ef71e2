package pgfx_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// recordedEvents are the events of a pool.
type recordedEvents struct {
	mu         sync.Mutex
	statements []pgfx.StatementEvent
	contexts   []context.Context
	acquires   []pgfx.AcquireEvent
	released   []time.Duration
	connects   []pgfx.ConnectEvent
}

func (r *recordedEvents) observer() pgfx.Observer {
	return pgfx.Observer{
		Statement: func(ctx context.Context, e pgfx.StatementEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.statements, r.contexts = append(r.statements, e), append(r.contexts, ctx)
		},
		Acquire: func(_ context.Context, e pgfx.AcquireEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.acquires = append(r.acquires, e)
		},
		Release: func(held time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.released = append(r.released, held)
		},
		Connect: func(_ context.Context, e pgfx.ConnectEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.connects = append(r.connects, e)
		},
	}
}

func TestObserver_GetsStatementsWithTheDurationsOfTheStatistics(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	events, later := &recordedEvents{}, &recordedEvents{}
	stop := db.Internals().Observe(events.observer())
	db.Internals().Observe(later.observer())
	before := db.Stats().Statements

	ctx := db.Internals().NameOperation(t.Context(), "Get", "users")
	ctx = db.Internals().NameOperation(ctx, "Find", "users") // within Get
	_, err := db.Pool().Exec(ctx, "select generate_series(1, $1::int)", 3)
	require.NoError(t, err)
	_, err = db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	batch.Queue("select 2")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())
	stop()
	stop()
	_, err = db.Pool().Exec(t.Context(), "select 4")
	require.NoError(t, err)

	require.Len(t, events.statements, 3)
	require.Len(t, later.statements, 4, "another observer stays")
	get, failed, sent := events.statements[0], events.statements[1], events.statements[2]
	assert.Equal(t, "select generate_series(1, $1::int)", get.Text)
	assert.Equal(t, "SELECT 3", get.Tag.String())
	assert.Positive(t, get.Prepared)
	assert.Less(t, get.Prepared, get.Took)
	assert.NotZero(t, get.PID)
	assert.Equal(t, pgfx.Operation{Name: "Get", Collection: "users"}, pgfx.OperationOf(events.contexts[0]))
	require.ErrorContains(t, failed.Err, "division by zero")
	assert.Zero(t, pgfx.OperationOf(events.contexts[1]))
	assert.Len(t, sent.Batch, 2)
	total := time.Duration(0)
	for _, e := range later.statements {
		total += e.Took
	}
	after := db.Stats().Statements
	assert.EqualValues(t, 4, after.Count-before.Count)
	assert.InDelta(t, float64(after.Average)*float64(after.Count)-float64(before.Average)*float64(before.Count), float64(total),
		float64(after.Count), "the same durations, but for rounded averages")
}

func TestObserver_GetsAcquiresReleasesAndConnects(t *testing.T) {
	t.Parallel()
	config := serverConfig()
	config.Pool = pgfx.PoolConfig{MaxConns: 1}
	db := started(t, config)
	events := &recordedEvents{}
	db.Internals().Observe(events.observer())
	db.Reset()

	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // ends while the only connection is in use
	defer cancel()
	_, err = db.Pool().Acquire(impatient)
	require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	conn.Release()
	conn, err = db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()

	require.Len(t, events.connects, 1)
	assert.Positive(t, events.connects[0].Took)
	require.NoError(t, events.connects[0].Err)
	require.Len(t, events.acquires, 3)
	assert.Positive(t, events.acquires[0].Waited, "for the connection to be opened")
	require.ErrorIs(t, events.acquires[1].Err, pgfx.ErrAcquireTimeout)
	assert.Positive(t, events.acquires[1].Waited)
	assert.Zero(t, events.acquires[2].Waited)
	require.Len(t, events.released, 2)
	assert.GreaterOrEqual(t, events.released[0], events.acquires[1].Waited, "the first lease spans the wait of the second acquire")
	pool := db.Stats().Pool
	assert.EqualValues(t, 1, pool.AcquireTimeouts)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = db.Pool().Acquire(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualValues(t, 1, db.Stats().Pool.AcquireTimeouts, "a cancelled acquire has not timed out")
}

func TestStats_GateClosedCountsTheTimeSinceTheSetup(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	assert.Zero(t, db.Stats().GateClosed)
	require.NoError(t, db.Start(t.Context()))
	assert.Zero(t, db.Stats().GateClosed, "the start does not count")
	gate := db.Internals().Gate()
	gate.Close(assert.AnError)
	first := db.Stats().GateClosed
	assert.Positive(t, first, "while the gate is closed")
	gate.Open()
	closed := db.Stats().GateClosed
	assert.GreaterOrEqual(t, closed, first)
	assert.Equal(t, closed, db.Stats().GateClosed, "while it is open, no time is added")
	gate.Close(assert.AnError)
	gate.Hold(time.Minute)
	held := db.Stats().GateClosed
	assert.Greater(t, held, closed, "a hold ends the time, but does not take it back")
	gate.Open()
	assert.Equal(t, held, db.Stats().GateClosed, "while callers wait, the gate is not closed")
}

func TestNameOperation_KeepsTheContextWithoutObservers(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	ctx := t.Context()
	assert.Same(t, ctx, db.Internals().NameOperation(ctx, "Get", "users"))
}
