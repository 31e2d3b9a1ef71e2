package migrate

import "time"

// WithLease sets how long a table lease lasts without a renewal.
func WithLease(d time.Duration) Option {
	return duration("WithLease", d, func(s *settings) { s.lease = d })
}
