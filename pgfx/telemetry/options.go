package telemetry

import (
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Option configures [Observe]. Pass options to Fx with [ProvideOptions]. The zero Option does nothing.
type Option struct{ apply func(*settings) error }

type settings struct {
	meters           metric.MeterProvider
	tracers          trace.TracerProvider
	poolName         string
	acquireThreshold time.Duration
	maxSeries        int
	rootSpans        bool
	withoutText      bool
	comments         *comments // nil: none
}

const (
	defaultAcquireThreshold = 10 * time.Millisecond
	defaultMaxSeries        = 1000
)

func newSettings(opts []Option) (*settings, error) {
	s := &settings{acquireThreshold: defaultAcquireThreshold, maxSeries: defaultMaxSeries}
	for _, opt := range opts {
		if opt.apply == nil {
			continue
		}
		if err := opt.apply(s); err != nil {
			return nil, err
		}
	}
	if s.meters == nil {
		s.meters = otel.GetMeterProvider()
	}
	if s.tracers == nil {
		s.tracers = otel.GetTracerProvider()
	}
	return s, nil
}

// WithMeterProvider sets where metrics go. Default: the global provider (otel.GetMeterProvider). A no-op provider turns metrics off.
func WithMeterProvider(provider metric.MeterProvider) Option {
	return Option{func(s *settings) error { s.meters = provider; return nil }}
}

// WithTracerProvider sets where spans go. Default: the global provider (otel.GetTracerProvider). A no-op provider turns traces off.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return Option{func(s *settings) error { s.tracers = provider; return nil }}
}

// WithPoolName sets db.client.connection.pool.name, which must be unique in the application. Default: the name of the database
// (rdsfx.ModuleFor), or "host:port/database" for the default one.
func WithPoolName(name string) Option {
	return Option{func(s *settings) error { s.poolName = name; return nil }}
}

// WithAcquireThreshold sets how long an acquire waits for a connection before it has a span. Default: 10 ms. [pgfx.Off] makes
// no such spans.
func WithAcquireThreshold(d time.Duration) Option {
	return Option{func(s *settings) error {
		if d <= 0 && d != pgfx.Off {
			return fmt.Errorf("telemetry: WithAcquireThreshold(%v): use a positive duration, or pgfx.Off", d)
		}
		s.acquireThreshold = d
		return nil
	}}
}

// WithMaxSeries limits the pairs of db.query.summary and error.type of a database. When there are more, the summary of further ones is
// "_OTHER". A pair is at most 25 time series in Prometheus: two histograms. Default: 1000. [pgfx.Off] leaves the summary out of metrics.
func WithMaxSeries(n int) Option {
	return Option{func(s *settings) error {
		if n < 1 && n != pgfx.Off {
			return fmt.Errorf("telemetry: WithMaxSeries(%d): use 1 or more, or pgfx.Off", n)
		}
		s.maxSeries = n
		return nil
	}}
}

// WithRootSpans also makes spans for statements and transactions whose context carries no span. Each begins a trace. The sampler of
// the tracer provider decides about them. Default: no such spans.
func WithRootSpans() Option {
	return Option{func(s *settings) error { s.rootSpans = true; return nil }}
}

// WithoutQueryText leaves db.query.text out of spans. Default: spans have the normalized text.
func WithoutQueryText() Option {
	return Option{func(s *settings) error { s.withoutText = true; return nil }}
}
