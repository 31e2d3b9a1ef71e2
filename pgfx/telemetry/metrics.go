package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// The buckets that the conventions give for durations of operations and for rows. They give none for durations of connections; those
// of operations are used.
var (
	durationBuckets = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	rowBuckets      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
)

// Attributes of rdsfx.
const (
	outcomeKey = attribute.Key("rdsfx.transaction.outcome")
	reasonKey  = attribute.Key("rdsfx.transaction.reason")
)

// other replaces values when there are too many.
const other = "_OTHER"

// metrics are the histograms of a database. Values are recorded when something ends, because a histogram with buckets has no
// observable instrument in OpenTelemetry.
type metrics struct {
	operation, create, wait, use, transaction metric.Float64Histogram
	rows                                      metric.Int64Histogram

	target    target
	pool      []metric.RecordOption
	maxSeries int

	mu           sync.RWMutex
	series       map[seriesKey]*series
	transactions map[transactionKey][]metric.RecordOption
}

func newMetrics(s *settings, t target) (*metrics, error) {
	meter := s.meters.Meter(scope, metric.WithSchemaURL(schemaURL))
	var failed []error
	duration := func(name, description string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(durationBuckets...))
		failed = append(failed, err)
		return h
	}
	m := &metrics{
		operation:   duration("db.client.operation.duration", "Duration of database client operations."),
		create:      duration("db.client.connection.create_time", "The time it took to create a new connection."),
		wait:        duration("db.client.connection.wait_time", "The time it took to obtain an open connection from the pool."),
		use:         duration("db.client.connection.use_time", "The time between borrowing a connection and returning it to the pool."),
		transaction: duration("rdsfx.transaction.duration", "Duration of transactions with all their attempts, including waits."),
		target:      t, maxSeries: s.maxSeries,
		pool:   []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(t.pool))},
		series: make(map[seriesKey]*series), transactions: make(map[transactionKey][]metric.RecordOption),
	}
	var err error
	m.rows, err = meter.Int64Histogram("db.client.response.returned_rows", metric.WithUnit("{row}"),
		metric.WithDescription("The actual number of records returned by the database operation."), metric.WithExplicitBucketBoundaries(rowBuckets...))
	return m, errors.Join(append(failed, err)...)
}

// seriesKey identifies the series of statements with the same summary that ended in the same way.
type seriesKey struct {
	summary         string
	operation       pgfx.Operation
	errorType, code string
}

// series holds the attributes of a seriesKey. Attributes that are made once cost no allocation for each statement.
type series struct{ attributes []metric.RecordOption }

// seriesOf returns the series of a key, or one for "_OTHER" if there are too many.
func (m *metrics) seriesOf(key seriesKey) *series {
	if m.maxSeries == pgfx.Off {
		key.summary, key.operation = "", pgfx.Operation{}
	}
	m.mu.RLock()
	s := m.series[key]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.series[key]; known != nil {
		return known
	}
	if m.maxSeries != pgfx.Off && len(m.series) >= m.maxSeries {
		key.summary, key.operation = other, pgfx.Operation{}
	}
	if len(m.series) >= 2*max(m.maxSeries, defaultMaxSeries) && key.errorType != "" {
		key.errorType, key.code = other, "" // the application makes up SQLSTATEs
	}
	if known := m.series[key]; known != nil {
		return known
	}
	s = &series{[]metric.RecordOption{metric.WithAttributeSet(m.attributes(key))}}
	m.series[key] = s
	return s
}

func (m *metrics) attributes(key seriesKey) attribute.Set {
	attrs := append([]attribute.KeyValue{m.target.pool}, m.target.database...)
	attrs = append(attrs, summaryAttributes(key.summary, key.operation)...)
	if key.errorType != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(key.errorType))
	}
	if key.code != "" {
		attrs = append(attrs, semconv.DBResponseStatusCode(key.code))
	}
	return attribute.NewSet(attrs...)
}

// recordStatement records an execution of s.
func (m *metrics) recordStatement(ctx context.Context, s *statement, e *pgfx.StatementEvent) {
	into := s.succeeded
	if e.Err != nil {
		typ, code := errorType(e.Err)
		into = m.seriesOf(seriesKey{s.summary, s.operation, typ, code})
	}
	m.operation.Record(ctx, e.Took.Seconds(), into.attributes...)
	if e.Err == nil && returnsRows(s, e) {
		m.rows.Record(ctx, e.Tag.RowsAffected(), into.attributes...)
	}
}

// returnsRows reports whether the rows of the command tag were returned.
func returnsRows(s *statement, e *pgfx.StatementEvent) bool {
	return e.Tag.Select() || s.returning || strings.HasPrefix(e.Tag.String(), "FETCH")
}

type transactionKey struct{ outcome, reason string }

// recordTransaction records the end of a transaction. There are as many series as reasons.
func (m *metrics) recordTransaction(ctx context.Context, e *pgfx.EndTxEvent) {
	key := transactionKey{e.Outcome, e.Reason}
	m.mu.RLock()
	attrs := m.transactions[key]
	m.mu.RUnlock()
	if attrs == nil {
		set := []attribute.KeyValue{m.target.pool, outcomeKey.String(e.Outcome)}
		if e.Reason != "" {
			set = append(set, reasonKey.String(e.Reason))
		}
		attrs = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(set...))}
		m.mu.Lock()
		m.transactions[key] = attrs
		m.mu.Unlock()
	}
	m.transaction.Record(ctx, e.Took.Seconds(), attrs...)
}

// recordPool records a duration of the pool.
func (m *metrics) recordPool(ctx context.Context, h metric.Float64Histogram, d time.Duration) {
	h.Record(ctx, d.Seconds(), m.pool...)
}
