package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// fixture is a started database with telemetry into memory.
type fixture struct {
	*rdsfx.Database

	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
	traces *trace.TracerProvider
	stop   func()
}

// newFixture returns a started database that has the tables users and orders.
func newFixture(tb testing.TB, config pgfx.Config, opts ...telemetry.Option) *fixture {
	tb.Helper()
	config.URL = fxtest.URL(tb, fxtest.SQL(`create table users (id int primary key, email text not null unique);
		create table orders (id int generated always as identity primary key, note text)`))
	d, err := rdsfx.Open(config)
	require.NoError(tb, err)
	f := &fixture{Database: d, reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	f.traces = trace.NewTracerProvider(trace.WithSpanProcessor(f.spans))
	f.stop, err = telemetry.Observe(d, append([]telemetry.Option{
		telemetry.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(f.reader))), telemetry.WithTracerProvider(f.traces),
		telemetry.WithPoolName("main"),
	}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(tb, d.Close(ctx))
		f.stop()
	})
	require.NoError(tb, d.Start(tb.Context()))
	return f
}

// collect returns the metrics by name.
func (f *fixture) collect(tb testing.TB) map[string]metricdata.Metrics {
	tb.Helper()
	var collected metricdata.ResourceMetrics
	require.NoError(tb, f.reader.Collect(context.Background(), &collected))
	all := make(map[string]metricdata.Metrics)
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			all[m.Name] = m
		}
	}
	return all
}

// values returns the values of a counter or a gauge by the values of one attribute, "" if a point has none.
func values(tb testing.TB, m metricdata.Metrics, key attribute.Key) map[string]float64 {
	tb.Helper()
	got := make(map[string]float64)
	add := func(set attribute.Set, v float64) {
		value, _ := set.Value(key)
		got[value.AsString()] += v
	}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Value))
		}
	case metricdata.Sum[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Count))
		}
	case metricdata.Histogram[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Sum))
		}
	default:
		require.Fail(tb, "metric without data", "%s: %T", m.Name, m.Data)
	}
	return got
}

// traced calls fn with the context of a new recording span, and returns the spans that ended meanwhile without that one.
//
//nolint:ireturn // the SDK's spans are interfaces
func (f *fixture) traced(tb testing.TB, fn func(ctx context.Context)) (parent trace.ReadOnlySpan, ended []trace.ReadOnlySpan) {
	tb.Helper()
	before := len(f.spans.Ended())
	ctx, span := f.traces.Tracer("test").Start(tb.Context(), "request")
	fn(ctx)
	span.End()
	all := f.spans.Ended()[before:]
	return all[len(all)-1], all[:len(all)-1]
}

func names(spans []trace.ReadOnlySpan) []string {
	var got []string
	for _, span := range spans {
		got = append(got, span.Name())
	}
	return got
}

// attributesOf returns the attributes of a span as text.
func attributesOf(span trace.ReadOnlySpan) map[string]string {
	got := make(map[string]string)
	for _, kv := range span.Attributes() {
		got[string(kv.Key)] = kv.Value.String()
	}
	return got
}

// useAll uses a database so that it has all metrics.
func useAll(tb testing.TB, f *fixture) {
	tb.Helper()
	require.NoError(tb, f.Tx.Do(tb.Context(), func(ctx context.Context) error {
		_, err := f.Tx.Exec(ctx, "select 1")
		return err
	}))
	_, err := f.DB.Pool().Exec(tb.Context(), "select 1/0")
	require.Error(tb, err)
	f.DB.Internals().PublishTopology(pgfx.Topology{Instances: []pgfx.Instance{{ID: "one", Writer: true}, {ID: "two", Lag: time.Second}}})
}
