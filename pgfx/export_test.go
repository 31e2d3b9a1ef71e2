package pgfx

import (
	"context"
	"time"
)

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

// Pacer is the pacer.
type Pacer struct{ p *pacer }

func NewPacer(most int) Pacer { return Pacer{newPacer(most)} }

func (p Pacer) Begin(ctx context.Context) error { return p.p.begin(ctx) }

func (p Pacer) End(err error) { p.p.end(err) }

// Counts returns how many are dialing, how many may and how many wait.
func (p Pacer) Counts() (dialing, limit, waiting int) {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	return p.p.dialing, p.p.limit, len(p.p.waiting)
}
