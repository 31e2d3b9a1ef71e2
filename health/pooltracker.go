package health

import (
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// exhaustedAfter is how long a pool must be full, with callers waiting, before it counts as exhausted. A short queue is
	// normal operation.
	exhaustedAfter = time.Second
	// poolStalledAfter is how long no connection must have been released to a full pool before it counts as stalled.
	poolStalledAfter = 10 * time.Second
)

// poolTracker compares a pool's statistics from one probe to the next.
type poolTracker struct {
	fullSince     time.Time // zero while the pool is not full
	released      int64     // connections released so far
	releasedSince time.Time // when that number was first seen
}

// update adds the pool's statistics to an observation.
func (p *poolTracker) update(now time.Time, stats pgfx.Stats, o *observation) {
	pool := stats.Pool
	o.connected = pool.Open > pool.Connecting
	if released := stats.Use.Count; released != p.released || p.releasedSince.IsZero() {
		p.released, p.releasedSince = released, now
	}
	if pool.InUse < pool.Max || pool.Waiting == 0 {
		p.fullSince = time.Time{}
		return
	}
	if p.fullSince.IsZero() {
		p.fullSince = now
	}
	full := now.Sub(p.fullSince)
	o.exhausted = full >= exhaustedAfter
	o.stalled = full >= poolStalledAfter && now.Sub(p.releasedSince) >= poolStalledAfter
}

// isFull reports whether the pool was full at the last update.
func (p *poolTracker) isFull() bool { return !p.fullSince.IsZero() }
