package pgfx

import "time"

// DurationStatsOf records durations in a histogram and returns what it makes of them.
func DurationStatsOf(durations []time.Duration) DurationStats {
	var h histogram
	for _, d := range durations {
		h.record(d)
	}
	return h.stats()
}

// AskAlways makes every acquire ask its connection, however fresh it is.
func (db *DB) AskAlways() { db.freshFor = -1 }
