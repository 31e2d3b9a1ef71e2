package telemetry

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Attributes of rdsfx in spans.
const (
	prepareTimeKey = attribute.Key("rdsfx.prepare_time") // in seconds
	waitTimeKey    = attribute.Key("rdsfx.wait_time")    // in seconds
	backendPIDKey  = attribute.Key("rdsfx.backend.pid")
	attemptsKey    = attribute.Key("rdsfx.transaction.attempts")
	attemptKey     = attribute.Key("rdsfx.transaction.attempt")
	isolationKey   = attribute.Key("rdsfx.transaction.isolation")
	readOnlyKey    = attribute.Key("rdsfx.transaction.read_only")
)

// maxBatchText is the length in bytes after which texts of a batch are left out.
const maxBatchText = 2 << 10

// spans makes the spans of a database.
type spans struct {
	tracer           trace.Tracer
	off              bool
	rootSpans        bool
	withoutText      bool
	acquireThreshold time.Duration
	database         []attribute.KeyValue
}

func newSpans(s *settings, t target) *spans {
	_, off := s.tracers.(noop.TracerProvider)
	return &spans{
		tracer: s.tracers.Tracer(scope, trace.WithSchemaURL(schemaURL)), off: off, rootSpans: s.rootSpans, withoutText: s.withoutText,
		acquireThreshold: s.acquireThreshold, database: append(slices.Clone(t.database), t.pool),
	}
}

// wanted reports whether a child of the span in ctx may be sampled. The check is cheap, unlike starting a span that is dropped.
func (s *spans) wanted(ctx context.Context) bool {
	if s.off {
		return false
	}
	parent := trace.SpanFromContext(ctx)
	if parent.IsRecording() {
		return true
	}
	sc := parent.SpanContext()
	return sc.IsSampled() || s.rootSpans && !sc.IsValid()
}

// start starts a span that began took ago.
//
//nolint:ireturn,spancheck // spans are interfaces; the caller ends this one
func (s *spans) start(ctx context.Context, name string, kind trace.SpanKind, took time.Duration, attrs ...attribute.KeyValue) (
	context.Context, trace.Span,
) {
	return s.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(time.Now().Add(-took)),
		trace.WithAttributes(s.database...), trace.WithAttributes(attrs...))
}

// end ends a span. The description of an error is its type, because its text may quote values.
func (s *spans) end(span trace.Span, err error) {
	if err != nil {
		s.setError(span, err)
	}
	span.End()
}

func (s *spans) setError(span trace.Span, err error) {
	typ, code := errorType(err)
	span.SetStatus(codes.Error, typ)
	span.SetAttributes(semconv.ErrorTypeKey.String(typ))
	if code != "" {
		span.SetAttributes(semconv.DBResponseStatusCode(code))
	}
}

// startStatement starts the span of a statement that has ended.
//
//nolint:ireturn // spans are interfaces
func (s *spans) startStatement(ctx context.Context, st *statement, e *pgfx.StatementEvent) (context.Context, trace.Span) {
	attrs := st.attributes()
	if !s.withoutText {
		attrs = append(attrs, semconv.DBQueryText(textOf(st, e)))
	}
	name := st.summary
	if name == "" {
		name = "postgresql"
	}
	ctx, span := s.start(ctx, name, trace.SpanKindClient, e.Took, attrs...)
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(backendPIDKey.Int64(int64(e.PID)))
	if len(e.Batch) > 1 {
		span.SetAttributes(semconv.DBOperationBatchSize(len(e.Batch)))
	}
	if e.Prepared > 0 {
		span.SetAttributes(prepareTimeKey.Float64(e.Prepared.Seconds()))
	}
	if e.Err == nil && returnsRows(st, e) {
		span.SetAttributes(semconv.DBResponseReturnedRows(int(e.Tag.RowsAffected())))
	}
	return ctx, span
}

// textOf returns the normalized text, of a batch those of its statements if they differ.
func textOf(st *statement, e *pgfx.StatementEvent) string {
	text := st.normalizedText()
	if len(e.Batch) < 2 { //nolint:mnd // one statement is no batch
		return text
	}
	all, differ := []string{text}, false
	for length := len(text); len(all) < len(e.Batch) && length <= maxBatchText; length += len(all[len(all)-1]) {
		next := (&statement{text: e.Batch[len(all)].SQL}).normalizedText()
		differ = differ || next != text
		all = append(all, next)
	}
	if !differ {
		return text
	}
	if len(all) < len(e.Batch) {
		all = append(all, "…")
	}
	return strings.Join(all, "; ")
}

func (s *spans) acquire(ctx context.Context, e pgfx.AcquireEvent) {
	wait := waitTimeKey.Float64(e.Waited.Seconds())
	if s.acquireThreshold > 0 && e.Waited >= s.acquireThreshold {
		_, span := s.start(ctx, "acquire", trace.SpanKindInternal, e.Waited, wait)
		s.end(span, e.Err)
		return
	}
	trace.SpanFromContext(ctx).AddEvent("acquire", trace.WithAttributes(wait))
}

func (s *spans) connect(ctx context.Context, e pgfx.ConnectEvent) {
	_, span := s.start(ctx, "connect", trace.SpanKindClient, e.Took)
	s.end(span, e.Err)
}

// txSpanKey is the context key of the span of a transaction. Each observed database has another.
type txSpanKey struct{ s *spans }

// beginTx starts the span of a transaction, which is in the context that it returns.
func (s *spans) beginTx(ctx context.Context, e pgfx.BeginTxEvent) context.Context {
	attrs := []attribute.KeyValue{readOnlyKey.Bool(e.Options.AccessMode == "read only")}
	if e.Options.IsoLevel != "" {
		attrs = append(attrs, isolationKey.String(string(e.Options.IsoLevel)))
	}
	ctx, span := s.start(ctx, "transaction", trace.SpanKindInternal, 0, attrs...)
	return context.WithValue(ctx, txSpanKey{s}, span)
}

func (s *spans) retryTx(ctx context.Context, attempt int, reason error) {
	if span, ok := ctx.Value(txSpanKey{s}).(trace.Span); ok {
		typ, _ := errorType(reason)
		span.AddEvent("retry", trace.WithAttributes(attemptKey.Int(attempt), semconv.ErrorTypeKey.String(typ)))
	}
}

func (s *spans) endTx(ctx context.Context, e *pgfx.EndTxEvent) {
	span, ok := ctx.Value(txSpanKey{s}).(trace.Span)
	if !ok {
		return
	}
	span.SetAttributes(attemptsKey.Int(e.Attempts), outcomeKey.String(e.Outcome))
	if e.Reason != "" {
		span.SetAttributes(reasonKey.String(e.Reason))
	}
	switch {
	case e.Err != nil:
		s.setError(span, e.Err)
	case e.Outcome != "committed": // a panic
		span.SetStatus(codes.Error, e.Reason)
	}
	span.End()
}
