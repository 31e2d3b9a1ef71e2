package telemetry

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Module observes all databases of an Fx application. It uses a metric.MeterProvider and a trace.TracerProvider of the application,
// otherwise the global ones.
var Module = fx.Module("telemetry",
	fx.Provide(fx.Annotate(newExtension, fx.ResultTags(`group:"rdsfx.extensions"`))))

// ProvideOptions passes options to [Module].
func ProvideOptions(opts ...Option) fx.Option { return fxgroup.Supply("telemetry.options", opts...) }

type params struct {
	fx.In

	Meters  metric.MeterProvider `optional:"true"`
	Tracers trace.TracerProvider `optional:"true"`
	Options []Option             `group:"telemetry.options"`
}

func newExtension(p params) rdsfx.Extension {
	opts := append([]Option{WithMeterProvider(p.Meters), WithTracerProvider(p.Tracers)}, p.Options...)
	return rdsfx.Extension{Name: "telemetry", Attach: func(d *rdsfx.Database) (func(), error) { return Observe(d, opts...) }}
}

// scope is the name of the instrumentation scope of all metrics and spans.
const scope = "github.com/rdsfx-go/rdsfx/pgfx/telemetry"

// Observe makes metrics and spans of a database from now on. Call it before rdsfx.Database.Start, so that the start is observed too.
// stop ends it; call it when the database has been closed. Health and Tx of d may be nil: their metrics are then missing.
//
// The error reports an option with an invalid value, or an instrument that the meter provider refuses.
func Observe(d *rdsfx.Database, opts ...Option) (stop func(), err error) {
	if d == nil || d.DB == nil {
		return nil, errors.New("telemetry: no database to observe; pass the result of rdsfx.Open")
	}
	s, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	target := newTarget(d.DB, s.poolName)
	m, err := newMetrics(s, target)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	registration, err := observeSnapshots(s.meters.Meter(scope, metric.WithSchemaURL(schemaURL)), d, target)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	o := &observer{metrics: m, spans: newSpans(s, target), statements: statementCache{metrics: m, maxTexts: maxTexts}}
	events := pgfx.Observer{
		Statement: o.statement, Acquire: o.acquire, Release: o.release, Connect: o.connect,
		BeginTx: o.beginTx, RetryTx: o.retryTx, EndTx: o.endTx,
	}
	if s.comments != nil {
		events.Comment = s.comments.of
	}
	cancel := d.DB.Internals().Observe(events)
	return func() {
		cancel()
		_ = registration.Unregister() // fails only for a registration of another SDK
	}, nil
}
