package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// observer makes metrics and spans of the events of a database. A span is made when the event has ended, with the duration that the
// pool has measured, and a transaction's when it begins.
type observer struct {
	metrics    *metrics
	spans      *spans
	statements statementCache
}

func (o *observer) statement(ctx context.Context, e pgfx.StatementEvent) {
	op := pgfx.OperationOf(ctx)
	var s *statement
	if e.Batch != nil {
		s = o.statements.ofBatch(e.Batch, op)
	} else {
		s = o.statements.find(e.Text, op)
	}
	var span trace.Span
	if o.spans.wanted(ctx) {
		ctx, span = o.spans.startStatement(ctx, s, &e)
	}
	o.metrics.recordStatement(ctx, s, &e) // with its span, to which an exemplar of the histogram then leads
	if span != nil {
		o.spans.end(span, e.Err)
	}
}

func (o *observer) acquire(ctx context.Context, e pgfx.AcquireEvent) {
	if e.Err == nil {
		o.metrics.recordPool(ctx, o.metrics.wait, e.Waited)
	}
	if e.Waited > 0 && o.spans.wanted(ctx) {
		o.spans.acquire(ctx, e)
	}
}

func (o *observer) release(held time.Duration) {
	o.metrics.recordPool(context.Background(), o.metrics.use, held)
}

func (o *observer) connect(ctx context.Context, e pgfx.ConnectEvent) {
	if e.Err == nil {
		o.metrics.recordPool(ctx, o.metrics.create, e.Took)
	}
	if o.spans.wanted(ctx) {
		o.spans.connect(ctx, e)
	}
}

func (o *observer) beginTx(ctx context.Context, e pgfx.BeginTxEvent) context.Context {
	if o.spans.wanted(ctx) {
		return o.spans.beginTx(ctx, e)
	}
	return ctx
}

func (o *observer) retryTx(ctx context.Context, attempt int, reason error) {
	o.spans.retryTx(ctx, attempt, reason)
}

func (o *observer) endTx(ctx context.Context, e pgfx.EndTxEvent) {
	o.metrics.recordTransaction(ctx, &e)
	o.spans.endTx(ctx, &e)
}
