package health

import (
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// exhaustedAfter is how long a pool must be seen full, with callers waiting, before it counts as exhausted: a short
	// queue is what a pool is for.
	exhaustedAfter = time.Second
	// stuckAfter is how long nothing must have come back to a full pool before it counts as stuck.
	stuckAfter = 10 * time.Second
)

// poolWatch follows a pool from look to look. The time is given to it.
type poolTracker struct {
	fullSince     time.Time // zero while it isn't full
	released      int64     // connections given back so far
	releasedSince time.Time // when that figure was first seen
}

// see takes in a snapshot of the pool and completes the finding.
func (w *poolTracker) update(now time.Time, stats pgfx.Stats, f *observation) {
	pool := stats.Pool
	f.connected = pool.Open > pool.Connecting
	if returned := stats.Use.Count; returned != w.released || w.releasedSince.IsZero() {
		w.released, w.releasedSince = returned, now
	}
	if pool.InUse < pool.Max || pool.Waiting == 0 {
		w.fullSince = time.Time{}
		return
	}
	if w.fullSince.IsZero() {
		w.fullSince = now
	}
	full := now.Sub(w.fullSince)
	f.exhausted = full >= exhaustedAfter
	f.stuck = full >= stuckAfter && now.Sub(w.releasedSince) >= stuckAfter
}

// isFull reports whether the pool was full when it was last seen.
func (w *poolTracker) isFull() bool { return !w.fullSince.IsZero() }
