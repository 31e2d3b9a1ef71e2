package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rdsfx-go/rdsfx"
)

// observed is a snapshotMetric with its instrument.
type observed struct {
	snapshotMetric

	ints   metric.Int64Observable
	floats metric.Float64Observable
}

// observeSnapshots registers the metrics of a database. At each collection, one snapshot is taken for all of them.
func observeSnapshots( //nolint:ireturn // OpenTelemetry's registrations are interfaces
	meter metric.Meter, d *rdsfx.Database, t target,
) (metric.Registration, error) {
	var all []observed
	var instruments []metric.Observable
	var failed []error
	for _, m := range snapshotMetrics {
		if m.part == ofTransactions && d.Tx == nil || m.part == ofHealth && d.Health == nil {
			continue
		}
		o, err := newObserved(meter, m)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all, instruments = append(all, o), append(instruments, o.instrument())
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, into metric.Observer) error {
		s := newSnapshot(d, t)
		for _, o := range all {
			o.read(s, func(value float64, attrs ...attribute.KeyValue) {
				with := metric.WithAttributes(append(attrs, t.pool)...)
				if o.floats != nil {
					into.ObserveFloat64(o.floats, value, with)
				} else {
					into.ObserveInt64(o.ints, int64(value), with)
				}
			})
		}
		return nil
	}, instruments...)
	return registration, err //nolint:wrapcheck // wrapped by Observe
}

// newObserved makes the instrument of a metric. A sum of latencies makes no sense, so a current duration is a gauge.
func newObserved(meter metric.Meter, m snapshotMetric) (observed, error) {
	o := observed{snapshotMetric: m}
	var err error
	unit, description := metric.WithUnit(m.unit), metric.WithDescription(m.description)
	switch isDuration := m.unit == seconds; {
	case isDuration && m.kind == gauge:
		o.floats, err = meter.Float64ObservableGauge(m.name, unit, description)
	case isDuration:
		o.floats, err = meter.Float64ObservableCounter(m.name, unit, description)
	case m.kind == gauge:
		o.ints, err = meter.Int64ObservableUpDownCounter(m.name, unit, description)
	default:
		o.ints, err = meter.Int64ObservableCounter(m.name, unit, description)
	}
	if err != nil {
		return o, fmt.Errorf("%s: %w", m.name, err)
	}
	return o, nil
}

// instrument returns the instrument for the registration of a callback.
func (o *observed) instrument() metric.Observable { //nolint:ireturn // OpenTelemetry's instruments are interfaces
	if o.floats != nil {
		return o.floats
	}
	return o.ints
}
