package health

import "go.uber.org/zap"

// Option configures a [Monitor]. Pass options to [NewMonitor].
type Option struct{ apply func(*options) }

type options struct {
	logger    *zap.Logger
	observers []Observer
	checks    []Check
}

// WithLogger sets the logger, which the monitor names "health". Default, also for nil: the logger of the pgfx.DB.
func WithLogger(logger *zap.Logger) Option {
	return Option{apply: func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}}
}

// WithObservers adds observers. An observer of another database ([Observer.For]) is ignored.
func WithObservers(observers ...Observer) Option {
	return Option{apply: func(o *options) { o.observers = append(o.observers, observers...) }}
}

// WithChecks adds checks. A check of another database ([Check.For]) is ignored.
func WithChecks(checks ...Check) Option {
	return Option{apply: func(o *options) { o.checks = append(o.checks, checks...) }}
}
