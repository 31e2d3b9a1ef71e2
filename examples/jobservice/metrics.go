package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
)

// observed makes metrics of both databases and of the workers. GET /internal/metrics serves them to Prometheus.
var observed = fx.Options(telemetry.Module,
	fx.Provide(prometheus.NewRegistry, newJobMetrics, fx.Annotate(newMeterProvider, fx.As(new(metric.MeterProvider)))))

// newMeterProvider is called by Fx.
func newMeterProvider(lc fx.Lifecycle, registry *prometheus.Registry) (*sdkmetric.MeterProvider, error) {
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	lc.Append(fx.StopHook(provider.Shutdown))
	return provider, nil
}

// jobMetrics are the metrics of the service itself, beside those of its databases.
type jobMetrics struct {
	attempts metric.Int64Counter // ended attempts; the attribute outcome is succeeded, failed, stopped or lost
}

// newJobMetrics is called by Fx.
func newJobMetrics(provider metric.MeterProvider) (*jobMetrics, error) {
	attempts, err := provider.Meter("jobservice").Int64Counter("jobservice.job.attempts",
		metric.WithUnit("{attempt}"), metric.WithDescription("Attempts to run a job that have ended."))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &jobMetrics{attempts}, nil
}
