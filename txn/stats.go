package txn

import (
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Stats is a snapshot of what a manager has done. Each attempt of a retried transaction counts by itself.
type Stats struct {
	Begun      int64      `json:"begun"`
	Active     int64      `json:"active"`
	Committed  int64      `json:"committed"`
	RolledBack RolledBack `json:"rolled_back"`
	Retried    int64      `json:"retried"` // attempts after the first
	InDoubt    InDoubt    `json:"in_doubt"`
	Overdue    int64      `json:"overdue"` // reported for being open for long, see WithLongTxThreshold
	// Duration is from the call until the transaction has ended, with waiting for its connection included.
	Duration pgfx.DurationStats `json:"duration"`
}

// RolledBack counts transactions that were rolled back, by reason.
type RolledBack struct {
	Error         int64 `json:"error"`         // the closure returned an error
	Panic         int64 `json:"panic"`         // the closure panicked or called runtime.Goexit
	Cancelled     int64 `json:"cancelled"`     // the ctx was cancelled or its deadline passed
	Serialization int64 `json:"serialization"` // serialization failures and deadlocks
	ErrorIgnored  int64 `json:"error_ignored"` // an error was swallowed: of an inner Do or of a statement
	Misused       int64 `json:"misused"`       // the closure left work behind or ended the transaction itself
	Refused       int64 `json:"refused"`       // the server refused the COMMIT
	ConnLost      int64 `json:"conn_lost"`     // the connection was lost before COMMIT
	BeginFailed   int64 `json:"begin_failed"`  // it was never begun
}

// InDoubt counts commits whose answer was lost, by what became of them. Committed and Aborted ones count among the others
// too.
type InDoubt struct {
	Committed int64 `json:"committed"`
	Aborted   int64 `json:"aborted"`
	Unknown   int64 `json:"unknown"`
}

// counters are what a manager counts.
type counters struct {
	begun, committed, retried                                                atomic.Int64
	failed, panicked, cancelled, conflict, swallowed, misused, refused, lost atomic.Int64
	beginFailed, inDoubtCommitted, inDoubtAborted, inDoubtUnknown            atomic.Int64
	durations                                                                histogram.Histogram
}

// Stats returns a snapshot. It is safe for concurrent use.
func (m *Manager) Stats() Stats {
	c := &m.counters
	s := Stats{
		Committed: c.committed.Load(), Retried: c.retried.Load(),
		RolledBack: RolledBack{
			Error: c.failed.Load(), Panic: c.panicked.Load(), Cancelled: c.cancelled.Load(), Serialization: c.conflict.Load(),
			ErrorIgnored: c.swallowed.Load(), Misused: c.misused.Load(), Refused: c.refused.Load(), ConnLost: c.lost.Load(),
			BeginFailed: c.beginFailed.Load(),
		},
		InDoubt: InDoubt{
			Committed: c.inDoubtCommitted.Load(), Aborted: c.inDoubtAborted.Load(), Unknown: c.inDoubtUnknown.Load(),
		},
		Overdue:  m.open.Exceeded(),
		Duration: pgfx.DurationStats(c.durations.Summary()),
	}
	s.Begun = c.begun.Load() // after the ends, so that none of them is of a transaction that isn't counted
	r := &s.RolledBack
	s.Active = s.Begun - s.Committed - s.InDoubt.Unknown -
		r.Error - r.Panic - r.Cancelled - r.Serialization - r.ErrorIgnored - r.Misused - r.Refused - r.ConnLost
	return s
}

// ended counts the end of a transaction. err is what it ended in, before ctx's error was added.
func (t *transaction) ended(err error) {
	c := &t.m.counters
	c.durations.Record(t.m.now() - t.began)
	c.end(err, t).Add(1)
}

// end returns the counter of an end.
func (c *counters) end(err error, t *transaction) *atomic.Int64 {
	switch {
	case err == nil:
		return &c.committed
	case errors.Is(err, ErrOutcomeUnknown):
		return &c.inDoubtUnknown
	case errors.Is(err, errAbandoned):
		return &c.panicked
	case conflicting(err):
		return &c.conflict
	case t.root.Err() != nil:
		return &c.cancelled
	case errors.Is(err, ErrRollbackOnly), errors.Is(err, pgx.ErrTxCommitRollback):
		return &c.swallowed
	case errors.Is(err, errStillCalling), errors.Is(err, errStillReading), errors.Is(err, errEndedInside):
		return &c.misused
	case t.refused:
		return &c.refused
	case t.broken:
		return &c.lost
	}
	return &c.failed
}
