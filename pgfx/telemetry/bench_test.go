package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
)

// BenchmarkStatement compares what telemetry adds to a statement on the pool: its acquire, the statement and its release.
//
//	go test -run='^$' -bench=Statement -benchmem -count=10 ./pgfx/telemetry
func BenchmarkStatement(b *testing.B) {
	metrics := telemetry.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())))
	noMetrics := telemetry.WithMeterProvider(metricnoop.NewMeterProvider())
	sampled := trace.NewTracerProvider()
	dropped := trace.NewTracerProvider(trace.WithSampler(trace.NeverSample()))
	for _, variant := range []struct {
		name   string
		opts   []telemetry.Option // nil: no telemetry
		tracer *trace.TracerProvider
	}{
		{"off", nil, nil},
		{"metrics", []telemetry.Option{metrics}, nil},
		{"metrics, trace not sampled", []telemetry.Option{metrics, telemetry.WithTracerProvider(dropped)}, dropped},
		{"traces", []telemetry.Option{noMetrics, telemetry.WithTracerProvider(sampled)}, sampled},
		{"metrics and traces", []telemetry.Option{metrics, telemetry.WithTracerProvider(sampled)}, sampled},
	} {
		b.Run(variant.name, func(b *testing.B) {
			d, err := rdsfx.Open(pgfx.Config{URL: fxtest.URL(b)})
			require.NoError(b, err)
			if variant.opts != nil {
				stop, err := telemetry.Observe(d, variant.opts...)
				require.NoError(b, err)
				defer stop()
			}
			require.NoError(b, d.Start(b.Context()))
			defer func() { require.NoError(b, d.Close(context.Background())) }()
			ctx := b.Context()
			if variant.tracer != nil {
				spanCtx, span := variant.tracer.Tracer("bench").Start(ctx, "request")
				defer span.End()
				ctx = spanCtx
			}
			pool := d.DB.Pool()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pool.Exec(ctx, "select 1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
