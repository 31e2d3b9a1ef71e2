package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	fxapp "go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/telemetry"
	"github.com/rdsfx-go/rdsfx/txn"
)

// scrape returns what a Prometheus endpoint serves.
func scrape(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	response, err := http.Get(server.URL) //nolint:noctx // a test server
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, response.Body.Close())
	require.NoError(t, err)
	return string(body)
}

// docs: sql comment

var commented = telemetry.ProvideOptions(telemetry.WithSQLComment(telemetry.SQLComment{Application: "shop"}))

// docs: end

func TestModule_ObservesAllDatabasesAndPrometheusServesThem(t *testing.T) {
	t.Setenv("REPORTING_DATABASE_URL", fxtest.URL(t))
	registry := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	require.NoError(t, err)
	spans := tracetest.NewSpanRecorder()
	type both struct {
		fx.In

		DB        *pgfx.DB
		Reporting *pgfx.DB `name:"reporting"`
		Tx        *txn.Manager
	}
	var b both
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"), telemetry.Module,
		telemetry.ProvideOptions(telemetry.WithRootSpans()), commented,
		fx.Provide(func() metric.MeterProvider { return sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)) }),
		fx.Provide(func() trace.TracerProvider { return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)) }),
		fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Invoke(func(in both) { b = in }))
	app.RequireStart()
	var received string
	require.NoError(t, b.Tx.QueryRow(t.Context(), ownText).Scan(&received))
	assert.Equal(t, ownText+" /*application='shop'*/", received)
	for _, db := range []*pgfx.DB{b.DB, b.Reporting} {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.NoError(t, err)
	}
	text := scrape(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	for _, want := range []string{
		`db_client_operation_duration_seconds_bucket{db_client_connection_pool_name="reporting"`,
		`db_client_connection_count{db_client_connection_pool_name="reporting",db_client_connection_state="idle"`,
		`rdsfx_health_state{db_client_connection_pool_name="reporting"`,
		`rdsfx_transactions_total{`, `rdsfx_gate_closed_time_seconds_total{`,
		`le="0.005"`,
	} {
		assert.Contains(t, text, want)
	}
	assert.Equal(t, "select", names(spans.Ended())[len(spans.Ended())-1])
	app.RequireStop()
	assert.NotContains(t, scrape(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})), "rdsfx_health_state")
}

func TestModule_WithoutProvidersUsesTheGlobalOnes(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, telemetry.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&db))
	app.RequireStart()
	assert.True(t, db.Internals().IsObserved())
	app.RequireStop()
	assert.False(t, db.Internals().IsObserved())
}

func TestModule_InvalidOptionFailsNew(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, rdsfx.Module, telemetry.Module, telemetry.ProvideOptions(telemetry.WithMaxSeries(-5)),
		fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"}), fx.Invoke(func(*pgfx.DB) {}))
	require.ErrorContains(t, app.Err(), `extension "telemetry": telemetry: WithMaxSeries(-5)`)
}
