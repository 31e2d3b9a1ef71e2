package telemetry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	summaryKey = attribute.Key("db.query.summary")
	errorKey   = attribute.Key("error.type")
)

func TestMetrics_HaveTheNamesUnitsAndBucketsOfTheConventions(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	_, err := f.DB.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	metrics := f.collect(t)
	type convention interface {
		Name() string
		Unit() string
	}
	durations := []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	for _, want := range []struct {
		convention

		buckets []float64
	}{
		{dbconv.ClientOperationDuration{}, durations},
		{dbconv.ClientResponseReturnedRows{}, []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}},
		{dbconv.ClientConnectionCount{}, nil},
		{dbconv.ClientConnectionIdleMax{}, nil},
		{dbconv.ClientConnectionIdleMin{}, nil},
		{dbconv.ClientConnectionMax{}, nil},
		{dbconv.ClientConnectionPendingRequests{}, nil},
		{dbconv.ClientConnectionTimeouts{}, nil},
		{dbconv.ClientConnectionCreateTime{}, durations},
		{dbconv.ClientConnectionWaitTime{}, durations},
		{dbconv.ClientConnectionUseTime{}, durations},
	} {
		got, ok := metrics[want.Name()]
		require.True(t, ok, want.Name())
		assert.Equal(t, want.Unit(), got.Unit, want.Name())
		var buckets []float64
		switch data := got.Data.(type) {
		case metricdata.Histogram[float64]:
			buckets = data.DataPoints[0].Bounds
		case metricdata.Histogram[int64]:
			buckets = data.DataPoints[0].Bounds
		case metricdata.Sum[int64]:
			assert.Equal(t, want.Name() == "db.client.connection.timeouts", data.IsMonotonic, want.Name())
		}
		assert.Equal(t, want.buckets, buckets, want.Name())
	}
}

func TestMetrics_OfStatementsHaveSummaryNamespaceAndError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{SearchPath: "public, pg_catalog"})
	pool := f.DB.Pool()
	users, err := repo.New[user, int](f.Tx, "users")
	require.NoError(t, err)
	require.NoError(t, users.Create(t.Context(), &user{ID: 1, Email: "a@example.com"}))
	_, err = users.Get(t.Context(), 1)
	require.NoError(t, err)
	for range 2 {
		_, err = pool.Exec(t.Context(), "-- name: ListUsers :many\nselect generate_series(1, 3) from users")
		require.NoError(t, err)
	}
	_, err = pool.Exec(t.Context(), "insert into orders (note) values ('secret') returning id")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "insert into users values (1, 'b')")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("update orders set note = $1", "a")
	batch.Queue("update orders set note = $1", "b")
	require.NoError(t, pool.SendBatch(t.Context(), batch).Close())
	_, err = pool.CopyFrom(t.Context(), pgx.Identifier{"orders"}, []string{"note"}, pgx.CopyFromRows([][]any{{"a"}, {"b"}}))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = pool.Exec(ctx, "select pg_sleep(10) from orders")
	require.Error(t, err)

	metrics := f.collect(t)
	duration := metrics["db.client.operation.duration"]
	bySummary := values(t, duration, summaryKey)
	for summary, want := range map[string]float64{
		"Get users": 1, "ListUsers": 2, "insert orders": 1, "insert users": 1, "BATCH update orders": 1, `copy "orders"`: 1, "select orders": 1,
	} {
		assert.InDelta(t, want, bySummary[summary], 0, summary)
	}
	assert.Equal(t, map[string]float64{"23505": 1, "57014": 1}, dropEmpty(values(t, duration, errorKey)))
	for _, p := range duration.Data.(metricdata.Histogram[float64]).DataPoints {
		for key, want := range map[attribute.Key]string{
			"db.system.name": "postgresql", "db.namespace": f.DB.Pool().Config().ConnConfig.Database + "|public",
			"server.address": f.DB.Pool().Config().ConnConfig.Host, "db.client.connection.pool.name": "main",
		} {
			got, _ := p.Attributes.Value(key)
			assert.Equal(t, want, got.AsString(), key)
		}
		if summary, _ := p.Attributes.Value(summaryKey); summary.AsString() == "Get users" {
			op, _ := p.Attributes.Value("db.operation.name")
			table, _ := p.Attributes.Value("db.collection.name")
			assert.Equal(t, "Get users", op.AsString()+" "+table.AsString())
		}
	}
	rows := values(t, metrics["db.client.response.returned_rows"], summaryKey)
	assert.InDelta(t, 6, rows["ListUsers"], 0)
	assert.InDelta(t, 1, rows["insert orders"], 0, "returning")
	assert.NotContains(t, rows, `copy "orders"`, "they were sent")
	stats := f.DB.Stats()
	assert.InDelta(t, float64(stats.Statements.Count), sum(bySummary), 0, "the same events as those of the statistics")
	assert.Equal(t, map[string]float64{"23": 1, "57": 1}, values(t, metrics["rdsfx.statement.errors"], "rdsfx.sqlstate.class"))
}

func TestMetrics_OfThePoolAgreeWithItsStatistics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 2, MinConns: 1, MaxOverflow: 1}})
	pool := f.DB.Pool()
	held := []interface{ Release() }{}
	for range 3 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := pool.Acquire(ctx)
	require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	held[0].Release()

	metrics, stats := f.collect(t), f.DB.Stats()
	for name, want := range map[string]float64{
		"db.client.connection.idle.max": 2, "db.client.connection.idle.min": 1, "db.client.connection.max": 3,
		"db.client.connection.pending_requests": 0, "db.client.connection.timeouts": 1,
		"db.client.connection.create_time": float64(stats.Connect.Count), "db.client.connection.use_time": float64(stats.Use.Count),
		"db.client.connection.wait_time": float64(stats.Pool.Acquired), "rdsfx.connection.opened": float64(stats.Pool.Connected),
	} {
		assert.InDelta(t, want, values(t, metrics[name], "db.client.connection.pool.name")["main"], 0, name)
	}
	assert.InDelta(t, 2, values(t, metrics["db.client.connection.count"], "db.client.connection.state")["used"], 0)
	assert.InDelta(t, float64(stats.Pool.AcquireErrors), values(t, metrics["rdsfx.acquires"], "rdsfx.acquire.outcome")["failed"], 0)
	for _, conn := range held[1:] {
		conn.Release()
	}
}

func TestMetrics_OfTransactionsCountOutcomesAndReasons(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	failures := 1
	require.NoError(t, f.Tx.Do(t.Context(), func(ctx context.Context) error {
		if failures--; failures == 0 {
			_, err := f.Tx.Exec(ctx, "do $$ begin raise 'conflict' using errcode = '40001'; end $$")
			return err
		}
		return nil
	}, txn.Retry(pgfx.RetryPolicy{})))
	require.ErrorIs(t, f.Tx.Do(t.Context(), func(context.Context) error { return assert.AnError }), assert.AnError)

	metrics := f.collect(t)
	assert.Equal(t, map[string]float64{"committed": 1, "rolled_back": 1},
		values(t, metrics["rdsfx.transaction.duration"], "rdsfx.transaction.outcome"))
	assert.Equal(t, map[string]float64{"committed": 1, "rolled_back": 2, "unknown": 0},
		values(t, metrics["rdsfx.transactions"], "rdsfx.transaction.outcome"), "each attempt")
	assert.Equal(t, map[string]float64{"": 1, "error": 1, "serialization": 1},
		dropZero(values(t, metrics["rdsfx.transactions"], "rdsfx.transaction.reason")))
	assert.InDelta(t, 1, values(t, metrics["rdsfx.transaction.retries"], "")[""], 0)
}

func TestMetrics_OfHealthShowStateResetsAndTheClosedGate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	metrics := f.collect(t)
	assert.Equal(t, map[string]float64{"up": 1}, dropZero(values(t, metrics["rdsfx.health.state"], "rdsfx.health.state")))
	assert.InDelta(t, 1, values(t, metrics["rdsfx.health.transitions"], "rdsfx.health.state")["up"], 0)
	assert.InDelta(t, 1, values(t, metrics["rdsfx.health.initialized"], "")[""], 0)
	assert.Positive(t, values(t, metrics["rdsfx.server.connections.max"], "")[""])
	assert.Empty(t, dropZero(values(t, metrics["rdsfx.pool.resets"], "rdsfx.pool.reset_reason")))
	assert.Zero(t, values(t, metrics["rdsfx.gate.closed_time"], "")[""])

	f.DB.Internals().Gate().Close(assert.AnError)
	assert.Positive(t, values(t, f.collect(t)["rdsfx.gate.closed_time"], "")[""])
	f.DB.Internals().Gate().Open()
}

func TestMetrics_OfTheTopologyShowWriterLagAndChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	f.DB.Internals().PublishTopology(pgfx.Topology{
		Instances: []pgfx.Instance{{ID: "one", Writer: true}, {ID: "two", Lag: 20 * time.Millisecond}}, Changes: 3,
	})
	metrics := f.collect(t)
	assert.Equal(t, map[string]float64{"one": 1, "two": 0}, values(t, metrics["rdsfx.topology.writer"], "rdsfx.topology.instance"))
	assert.Equal(t, map[string]float64{"one": 0, "two": 0.02}, values(t, metrics["rdsfx.topology.lag"], "rdsfx.topology.instance"))
	assert.InDelta(t, 3, values(t, metrics["rdsfx.topology.writer_changes"], "")[""], 0)
}

func TestMetrics_NumberOfSeriesIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{}, telemetry.WithMaxSeries(20))
	for i := range 50 {
		_, err := f.DB.Pool().Exec(t.Context(), fmt.Sprintf("select 1 as a%d from users u%[1]d -- name: no", i)) // one summary
		require.NoError(t, err)
		_, err = f.DB.Pool().Exec(t.Context(), fmt.Sprintf("-- name: Q%d :one\nselect %[1]d", i)) // fifty
		require.NoError(t, err)
	}
	bySummary := values(t, f.collect(t)["db.client.operation.duration"], summaryKey)
	assert.InDelta(t, 50, bySummary["select users"], 0)
	assert.LessOrEqual(t, len(bySummary), 21)
	assert.GreaterOrEqual(t, bySummary["_OTHER"], 30.0)

	without := newFixture(t, pgfx.Config{}, telemetry.WithMaxSeries(pgfx.Off))
	_, err := without.DB.Pool().Exec(t.Context(), "select 1 from users")
	require.NoError(t, err)
	bySummary = values(t, without.collect(t)["db.client.operation.duration"], summaryKey)
	assert.Len(t, bySummary, 1)
	assert.Contains(t, bySummary, "")
}

func TestObserve_StopsAndIsNothingWhenOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	f.stop()
	assert.False(t, f.DB.Internals().IsObserved())
	_, err := f.DB.Pool().Exec(t.Context(), "select 1 as stopped from users")
	require.NoError(t, err)
	assert.NotContains(t, f.collect(t), "db.client.operation.duration")
	assert.NotContains(t, f.collect(t), "db.client.connection.count", "the callback is unregistered")

	off := newFixture(t, pgfx.Config{}, telemetry.WithMeterProvider(metricnoop.NewMeterProvider()),
		telemetry.WithTracerProvider(tracenoop.NewTracerProvider()))
	_, spans := off.traced(t, func(ctx context.Context) {
		_, err := off.DB.Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.Empty(t, spans)
	assert.Empty(t, off.collect(t))
}

func TestObserve_RefusesInvalidOptions(t *testing.T) {
	t.Parallel()
	_, err := telemetry.Observe(nil)
	require.ErrorContains(t, err, "pass the result of rdsfx.Open")
	f := newFixture(t, pgfx.Config{})
	for _, opt := range []telemetry.Option{telemetry.WithAcquireThreshold(0), telemetry.WithMaxSeries(0)} {
		_, err := telemetry.Observe(f.Database, opt)
		require.ErrorContains(t, err, "or pgfx.Off")
	}
	stop, err := telemetry.Observe(f.Database, telemetry.Option{}, telemetry.WithMeterProvider(metric.NewMeterProvider()))
	require.NoError(t, err)
	stop()
}

type user struct {
	ID    int    `db:"id,pk"`
	Email string `db:"email"`
}

func dropEmpty(m map[string]float64) map[string]float64 {
	delete(m, "")
	return m
}

func dropZero(m map[string]float64) map[string]float64 {
	for key, value := range m {
		if value == 0 {
			delete(m, key)
		}
	}
	return m
}

func sum(m map[string]float64) float64 {
	total := 0.0
	for _, value := range m {
		total += value
	}
	return total
}
