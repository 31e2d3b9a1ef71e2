package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestSpans_OfStatementsBatchesAndCopiesAreChildrenOfTheCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	pool := f.DB.Pool()
	users, err := repo.New[user, int](f.Tx, "users")
	require.NoError(t, err)
	parent, spans := f.traced(t, func(ctx context.Context) {
		require.NoError(t, users.Create(ctx, &user{ID: 1, Email: "a@example.com"}))
		_, err := users.Get(ctx, 1)
		require.NoError(t, err)
		_, err = pool.Exec(ctx, "update orders set note = 'secret' where note = $1", "secret")
		require.NoError(t, err)
		batch := &pgx.Batch{}
		batch.Queue("select 'secret' from users")
		batch.Queue("delete from orders where note = 'secret'")
		require.NoError(t, pool.SendBatch(ctx, batch).Close())
		_, err = pool.CopyFrom(ctx, pgx.Identifier{"orders"}, []string{"note"}, pgx.CopyFromRows([][]any{{"secret"}}))
		require.NoError(t, err)
	})
	got := names(spans)
	require.Equal(t, []string{"Create users", "Get users", "update orders", "BATCH", `copy "orders"`}, got[len(got)-5:])
	spans = spans[len(spans)-5:]
	for _, span := range spans {
		assert.Equal(t, parent.SpanContext().SpanID(), span.Parent().SpanID(), span.Name())
		assert.Equal(t, oteltrace.SpanKindClient, span.SpanKind())
		assert.False(t, span.StartTime().Before(parent.StartTime()))
		assert.False(t, span.EndTime().After(parent.EndTime()))
		assert.Equal(t, codes.Unset, span.Status().Code)
		for key, value := range attributesOf(span) {
			assert.NotContains(t, value, "secret", "%s: %s", span.Name(), key)
			assert.NotContains(t, value, "example.com", "%s: %s", span.Name(), key)
		}
	}
	get, batch := attributesOf(spans[1]), attributesOf(spans[3])
	assert.Equal(t, "Get", get["db.operation.name"])
	assert.Equal(t, "users", get["db.collection.name"])
	assert.Equal(t, "Get users", get["db.query.summary"])
	assert.Equal(t, "postgresql", get["db.system.name"])
	assert.Equal(t, "1", get["db.response.returned_rows"])
	assert.Contains(t, get["db.query.text"], `from "users" where`)
	assert.NotEmpty(t, get["rdsfx.prepare_time"])
	assert.Equal(t, "2", batch["db.operation.batch.size"])
	assert.Equal(t, "select ? from users; delete from orders where note = ?", batch["db.query.text"])
}

func TestSpans_OfErrorsHoldTheCodeAndNoText(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{}, telemetry.WithoutQueryText())
	_, spans := f.traced(t, func(ctx context.Context) {
		_, err := f.DB.Pool().Exec(ctx, "select 'secret'::int")
		require.Error(t, err)
		ended, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err = f.DB.Pool().Exec(ended, "select pg_sleep(10)")
		require.Error(t, err)
	})
	require.Len(t, spans, 2)
	for i, code := range []string{"22P02", "57014"} {
		attrs := attributesOf(spans[i])
		assert.Equal(t, trace.Status{Code: codes.Error, Description: code}, spans[i].Status())
		assert.Equal(t, code, attrs["error.type"])
		assert.Equal(t, code, attrs["db.response.status_code"])
		assert.NotContains(t, attrs, "db.query.text")
		assert.Empty(t, spans[i].Events())
	}
}

func TestSpans_OfTransactionsAreParentsOverAllAttempts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{})
	failures := 1
	request, spans := f.traced(t, func(ctx context.Context) {
		require.NoError(t, f.Tx.Do(ctx, func(ctx context.Context) error {
			if failures--; failures == 0 {
				_, err := f.Tx.Exec(ctx, "do $$ begin raise 'conflict' using errcode = '40001'; end $$")
				return err
			}
			return f.Tx.Do(ctx, func(ctx context.Context) error { // joins
				_, err := f.Tx.Exec(ctx, "insert into users values (1, 'a')")
				return err
			})
		}, txn.Retry(pgfx.RetryPolicy{}), txn.Serializable()))
	})
	transaction, statements := spans[len(spans)-1], spans[:len(spans)-1]
	require.Equal(t, "transaction", transaction.Name())
	assert.Equal(t, request.SpanContext().SpanID(), transaction.Parent().SpanID())
	assert.Subset(t, names(statements), []string{"do", "rollback", "insert users", "commit"})
	begins := 0
	for _, span := range statements {
		if span.Name() == "acquire" || span.Name() == "connect" {
			continue
		}
		assert.Equal(t, transaction.SpanContext().SpanID(), span.Parent().SpanID(), span.Name())
		if span.Name() == "begin" {
			begins++
		}
	}
	assert.Equal(t, 2, begins, "one for each attempt")
	attrs := attributesOf(transaction)
	assert.Equal(t, "2", attrs["rdsfx.transaction.attempts"])
	assert.Equal(t, "committed", attrs["rdsfx.transaction.outcome"])
	assert.Equal(t, "serializable", attrs["rdsfx.transaction.isolation"])
	require.NotEmpty(t, transaction.Events())
	last := transaction.Events()[len(transaction.Events())-1]
	assert.Equal(t, "retry", last.Name)
	assert.Equal(t, codes.Unset, transaction.Status().Code)

	_, spans = f.traced(t, func(ctx context.Context) {
		require.ErrorIs(t, f.Tx.Do(ctx, func(context.Context) error { return assert.AnError }), assert.AnError)
		assert.Panics(t, func() { _ = f.Tx.Do(ctx, func(context.Context) error { panic(1) }) })
	})
	var failed []string
	for _, span := range spans {
		if span.Name() == "transaction" {
			assert.Equal(t, codes.Error, span.Status().Code)
			failed = append(failed, attributesOf(span)["rdsfx.transaction.reason"])
		}
	}
	assert.Equal(t, []string{"error", "panic"}, failed)
}

func TestSpans_OfAcquiresOnlyIfTheyWaited(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}}, telemetry.WithAcquireThreshold(time.Nanosecond))
	_, spans := f.traced(t, func(ctx context.Context) {
		_, err := f.DB.Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.Equal(t, []string{"select"}, names(spans), "quiet: no acquire, no prepare")

	f.DB.Reset()
	_, spans = f.traced(t, func(ctx context.Context) {
		_, err := f.DB.Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.ElementsMatch(t, []string{"connect", "acquire", "select"}, names(spans))

	slow := newFixture(t, pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}}, telemetry.WithAcquireThreshold(time.Hour))
	slow.DB.Reset()
	request, spans := slow.traced(t, func(ctx context.Context) {
		_, err := slow.DB.Pool().Exec(ctx, "select 1")
		require.NoError(t, err)
	})
	assert.ElementsMatch(t, []string{"connect", "select"}, names(spans))
	require.Len(t, request.Events(), 1)
	assert.Equal(t, "acquire", request.Events()[0].Name)
}

func TestSpans_RespectTheSampler(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	never := trace.NewTracerProvider(trace.WithSpanProcessor(recorder), trace.WithSampler(trace.NeverSample()))
	f := newFixture(t, pgfx.Config{}, telemetry.WithTracerProvider(never), telemetry.WithRootSpans())
	ctx, span := never.Tracer("test").Start(t.Context(), "request")
	require.NoError(t, f.Tx.Do(ctx, func(ctx context.Context) error {
		_, err := f.Tx.Exec(ctx, "select 1")
		return err
	}))
	span.End()
	assert.Empty(t, recorder.Ended())
	_, err := f.DB.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, recorder.Ended(), "the sampler decides about roots too")

	children := newFixture(t, pgfx.Config{})
	_, err = children.DB.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, children.spans.Ended(), "no span without a parent")
	remote := oteltrace.ContextWithRemoteSpanContext(t.Context(), oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{1}, TraceFlags: oteltrace.FlagsSampled, Remote: true,
	}))
	_, err = children.DB.Pool().Exec(remote, "select 1")
	require.NoError(t, err)
	assert.Equal(t, []string{"select"}, names(children.spans.Ended()))

	roots := newFixture(t, pgfx.Config{}, telemetry.WithRootSpans())
	_, err = roots.DB.Pool().Exec(t.Context(), "-- name: Poll :many\nselect 1")
	require.NoError(t, err)
	assert.Contains(t, names(roots.spans.Ended()), "Poll")
}
