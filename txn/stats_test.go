package txn_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestStats_CountEndsByReason(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	_, err := m.Exec(t.Context(), `create table children (parent text references entries deferrable initially deferred)`)
	require.NoError(t, err)
	do := func(fn func(ctx context.Context) error) {
		defer func() { _ = recover() }()
		_ = m.Do(t.Context(), fn)
	}
	do(func(context.Context) error {
		assert.EqualValues(t, 1, m.Stats().Active)
		return nil
	})
	do(func(context.Context) error { return errTest })
	do(func(context.Context) error { panic(1) })
	do(func(ctx context.Context) error { return fail(ctx, m, "40001") })
	do(func(ctx context.Context) error {
		_ = m.Do(ctx, func(context.Context) error { return errTest })
		return nil
	})
	do(func(ctx context.Context) error {
		_ = fail(ctx, m, "23505")
		return nil
	})
	do(func(ctx context.Context) error {
		m.QueryRow(ctx, "select 1")
		return nil
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "commit")
		return err
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "insert into children values ('missing')")
		return err
	})
	do(func(ctx context.Context) error {
		_, err := m.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	_ = m.Do(ctx, func(context.Context) error { cancel(); return nil })
	_ = m.Do(ctx, neverCalled(t))

	stats := m.Stats()
	assert.EqualValues(t, 11, stats.Duration.Count)
	assert.Positive(t, stats.Duration.Max)
	stats.Duration = m.DB().Stats().Use // excluded from the comparison
	assert.Equal(t, txn.Stats{
		Begun: 11, Committed: 1, Duration: stats.Duration,
		RolledBack: txn.RolledBack{
			Error: 1, Panic: 1, Cancelled: 1, Serialization: 1, ErrorIgnored: 2, InvalidUse: 2, Refused: 1, ConnLost: 1, BeginFailed: 1,
		},
	}, stats)
}

// txEvents observes the transactions of a database.
type txEvents struct {
	mu      sync.Mutex
	began   []pgfx.BeginTxEvent
	retries []int
	ended   []pgfx.EndTxEvent
	inside  []bool // whether the end had the context that the begin has returned
}

type markKey struct{}

func observeTx(m *txn.Manager) *txEvents {
	e := &txEvents{}
	m.DB().Internals().Observe(pgfx.Observer{
		BeginTx: func(ctx context.Context, began pgfx.BeginTxEvent) context.Context {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.began = append(e.began, began)
			return context.WithValue(ctx, markKey{}, true)
		},
		RetryTx: func(_ context.Context, attempt int, _ error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.retries = append(e.retries, attempt)
		},
		EndTx: func(ctx context.Context, ended pgfx.EndTxEvent) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.ended, e.inside = append(e.ended, ended), append(e.inside, ctx.Value(markKey{}) == true)
		},
	})
	return e
}

func TestManager_ReportsTransactionsToObservers(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	events := observeTx(m)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		assert.Equal(t, true, ctx.Value(markKey{}), "the closure gets the observer's context")
		return m.Do(ctx, func(context.Context) error { return nil }) // joins
	}, txn.ReadOnly(), txn.Serializable()))
	failures := 2
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		if failures--; failures >= 0 {
			return fail(ctx, m, "40001")
		}
		return nil
	}, txn.Retry(pgfx.RetryPolicy{})))
	require.ErrorIs(t, m.Do(t.Context(), func(context.Context) error { return errTest }), errTest)
	assert.Panics(t, func() { _ = m.Do(t.Context(), func(context.Context) error { panic(1) }) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, m.Do(ended, neverCalled(t)))

	assert.Equal(t, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}, events.began[0].Options)
	assert.Equal(t, []int{2, 3}, events.retries)
	for i := range events.ended {
		assert.Positive(t, events.ended[i].Took)
		assert.True(t, events.inside[i])
		events.ended[i].Took, events.ended[i].Err = 0, nil
	}
	assert.Equal(t, []pgfx.EndTxEvent{
		{Outcome: "committed", Attempts: 1},
		{Outcome: "committed", Attempts: 3},
		{Outcome: "rolled_back", Reason: "error", Attempts: 1},
		{Outcome: "rolled_back", Reason: "panic", Attempts: 1},
		{Outcome: "rolled_back", Reason: "begin_failed", Attempts: 1},
	}, events.ended)
}

func TestRollbackReasons_AreTheFieldsOfRolledBack(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(txn.RolledBack{})
	require.NoError(t, err)
	var fields map[string]int64
	require.NoError(t, json.Unmarshal(text, &fields))
	assert.ElementsMatch(t, slices.Collect(maps.Keys(fields)), txn.RollbackNames[1:])
}
