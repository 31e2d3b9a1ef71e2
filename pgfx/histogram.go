package pgfx

import "time"

// Histogram collects durations. Its zero value is ready for use, and it is safe for concurrent use: recording is a few
// atomic operations and no lock. It must not be copied.
type Histogram struct{ h histogram }

// Record adds a duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) { h.h.record(d) }

// Stats describes what has been recorded.
func (h *Histogram) Stats() DurationStats { return h.h.stats() }
