// Package telemetry makes OpenTelemetry metrics and traces of all databases of an application:
//
//	fx.New(rdsfx.Module, telemetry.Module, ...)
//
// Without Fx, call [Observe] with each rdsfx.Database. The application brings the SDK and the exporter. Provide a metric.MeterProvider
// and a trace.TracerProvider to Fx, or use [WithMeterProvider] and [WithTracerProvider]. The default is the global providers of
// package otel.
//
// # Metrics
//
// Names, units, attributes and buckets are those of OpenTelemetry's semantic conventions 1.43: db.client.operation.duration,
// db.client.response.returned_rows and the nine metrics db.client.connection.*. Metrics of rdsfx itself begin with "rdsfx.": health,
// the gate, resets, transactions, retries, leases and errors. docs/observability.md lists all of them.
//
// Durations are those that the pool's statistics measure, so no second clock runs. If pgfx's Config.Stats.Disabled is set, statements
// and leases have no durations, and their histograms stay empty.
//
// The number of time series is bounded, see [WithMaxSeries].
//
// # Traces
//
// A statement, a batch and a COPY each have one span, which is made when they have ended, with the measured duration. Its parent is the
// span in the context of the call. A transaction of txn.Manager has a span that is the parent of its statements, over all attempts.
// Connects have a span, as have acquires that waited for 10 ms or longer (see [WithAcquireThreshold]). A shorter wait is an
// event of the surrounding span. Spans are children by default: without a recording span in the context there are none
// (see [WithRootSpans]).
//
// The name of a statement's span is its db.query.summary. For a repository that is the method and the table ("Get users"). Otherwise it
// is the name in sqlc's comment, or the operations and tables of the statement ("select users"). The text in db.query.text is
// normalized and holds no values. Arguments and texts of errors are never recorded.
//
// # Comments
//
// [WithSQLComment] appends a comment with the application, the method of the repository and the trace to statements.
package telemetry
