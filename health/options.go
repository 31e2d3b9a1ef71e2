package health

import "go.uber.org/zap"

// Option completes a [Monitor] that is made by hand.
type Option struct{ apply func(*options) }

type options struct {
	logger    *zap.Logger
	observers []Observer
	checks    []Check
}

// WithLogger sets the logger; it is named "health". Default: the database's own. With Fx the application's *zap.Logger is
// used.
func WithLogger(logger *zap.Logger) Option {
	return Option{apply: func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}}
}

// WithObservers adds observers. Those of another database than the monitor's are ignored.
func WithObservers(observers ...Observer) Option {
	return Option{apply: func(o *options) { o.observers = append(o.observers, observers...) }}
}

// WithChecks adds checks. Those of another database than the monitor's are ignored.
func WithChecks(checks ...Check) Option {
	return Option{apply: func(o *options) { o.checks = append(o.checks, checks...) }}
}
