package telemetry_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
	"github.com/rdsfx-go/rdsfx/txn"
)

// The module observes all databases of the application. Provide a metric.MeterProvider, a trace.TracerProvider or both.
func ExampleModule() {
	reader := sdkmetric.NewManualReader() // in production an exporter, for example that of Prometheus
	var tx *txn.Manager
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		telemetry.Module,
		fx.Provide(func() metric.MeterProvider { return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) }),
		fx.Populate(&tx),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()

	_, err := tx.Exec(ctx, "select 1")
	fmt.Println(err)
	var collected metricdata.ResourceMetrics
	fmt.Println(reader.Collect(ctx, &collected))
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == "db.client.operation.duration" {
				fmt.Println(m.Name, m.Unit)
			}
		}
	}
	// Output:
	// <nil>
	// <nil>
	// db.client.operation.duration s
}
