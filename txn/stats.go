package txn

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Stats is a snapshot of a manager's statistics since it was created. Each attempt of a retried transaction is counted.
type Stats struct {
	Begun      int64      `json:"begun"`
	Active     int64      `json:"active"`
	Committed  int64      `json:"committed"`
	RolledBack RolledBack `json:"rolled_back"`
	Retried    int64      `json:"retried"` // attempts after the first one
	InDoubt    InDoubt    `json:"in_doubt"`
	// Requests counts the requests of Middleware that failed, except by a status of their handler.
	Requests Requests `json:"requests"`
	// LongRunning counts the transactions that were reported for staying open too long, see WithLongTxThreshold.
	LongRunning int64 `json:"long_running"`
	// Duration is the time from the call of Do to the end of the transaction, including the wait for a connection.
	Duration pgfx.DurationStats `json:"duration"`
}

// RolledBack counts rolled-back transactions by reason. A transaction is counted once.
type RolledBack struct {
	Error         int64 `json:"error"`         // the closure returned an error
	Panic         int64 `json:"panic"`         // the closure panicked or called runtime.Goexit
	Cancelled     int64 `json:"cancelled"`     // ctx was cancelled or its deadline passed
	Serialization int64 `json:"serialization"` // serialization failures and deadlocks
	ErrorIgnored  int64 `json:"error_ignored"` // the closure returned nil after an inner Do or a statement had failed
	InvalidUse    int64 `json:"invalid_use"`   // the closure left a statement running or a result open, or ended the transaction itself
	Refused       int64 `json:"refused"`       // the server refused the COMMIT
	ConnLost      int64 `json:"conn_lost"`     // the connection was lost before COMMIT was sent
	BeginFailed   int64 `json:"begin_failed"`  // the transaction could not be begun
}

// InDoubt counts in-doubt commits by outcome. Those that were resolved are also counted by Stats.Committed or
// Stats.RolledBack.
type InDoubt struct {
	Committed int64 `json:"committed"`
	Aborted   int64 `json:"aborted"`
	Unknown   int64 `json:"unknown"`
}

// Requests counts failed requests by reason.
type Requests struct {
	Aborted     int64 `json:"aborted"`     // the client disconnected, or the body could not be read
	TooLarge    int64 `json:"too_large"`   // the body was larger than HTTPConfig.MaxRequest
	Unavailable int64 `json:"unavailable"` // the database was unavailable
	Failed      int64 `json:"failed"`      // any other error
}

// counters hold the statistics of a manager.
type counters struct {
	begun, committed, retried                                              atomic.Int64
	rolledBack                                                             [len(rollbackNames)]atomic.Int64
	inDoubtCommitted, inDoubtAborted, inDoubtUnknown                       atomic.Int64
	requestsAborted, requestsTooLarge, requestsUnavailable, requestsFailed atomic.Int64
	durations                                                              histogram.Histogram
}

// Stats returns a snapshot. It is safe for concurrent use.
func (m *Manager) Stats() Stats {
	c := &m.counters
	rolledBack := func(r rollbackReason) int64 { return c.rolledBack[r].Load() }
	s := Stats{
		Committed: c.committed.Load(), Retried: c.retried.Load(),
		RolledBack: RolledBack{
			Error: rolledBack(failed), Panic: rolledBack(panicked), Cancelled: rolledBack(cancelled),
			Serialization: rolledBack(serialization), ErrorIgnored: rolledBack(errorIgnored), InvalidUse: rolledBack(invalidUse),
			Refused: rolledBack(refused), ConnLost: rolledBack(connLost), BeginFailed: rolledBack(beginFailed),
		},
		InDoubt: InDoubt{
			Committed: c.inDoubtCommitted.Load(), Aborted: c.inDoubtAborted.Load(), Unknown: c.inDoubtUnknown.Load(),
		},
		Requests: Requests{
			Aborted: c.requestsAborted.Load(), TooLarge: c.requestsTooLarge.Load(), Unavailable: c.requestsUnavailable.Load(),
			Failed: c.requestsFailed.Load(),
		},
		LongRunning: m.longTx.Exceeded(),
		Duration:    pgfx.DurationStats(c.durations.Summary()),
	}
	s.Begun = c.begun.Load() // read after the ends, so that Active can't be negative
	r := &s.RolledBack
	s.Active = s.Begun - s.Committed - s.InDoubt.Unknown -
		r.Error - r.Panic - r.Cancelled - r.Serialization - r.ErrorIgnored - r.InvalidUse - r.Refused - r.ConnLost
	return s
}

// rollbackReason is why a transaction was rolled back, a field of [RolledBack].
type rollbackReason uint8

const (
	notRolledBack rollbackReason = iota
	failed
	panicked
	cancelled
	serialization
	errorIgnored
	invalidUse
	refused
	connLost
	beginFailed
)

// rollbackNames are the names of the fields in JSON.
var rollbackNames = [...]string{
	"", "error", "panic", "cancelled", "serialization", "error_ignored", "invalid_use", "refused", "conn_lost", "begin_failed",
}

// count records the end of a transaction. err is its error before that of ctx was added.
func (t *transaction) count(err error) {
	c := &t.m.counters
	c.durations.Record(time.Since(t.began))
	switch {
	case err == nil:
		c.committed.Add(1)
	case errors.Is(err, ErrOutcomeUnknown):
		c.inDoubtUnknown.Add(1)
	default:
		t.rollback = t.rollbackReason(err)
		c.rolledBack[t.rollback].Add(1)
	}
}

// rollbackReason returns why t was rolled back with err.
func (t *transaction) rollbackReason(err error) rollbackReason {
	switch {
	case errors.Is(err, errAbandoned):
		return panicked
	case isSerializationFailure(err):
		return serialization
	case t.root.Err() != nil:
		return cancelled
	case errors.Is(err, ErrRollbackOnly), errors.Is(err, pgx.ErrTxCommitRollback):
		return errorIgnored
	case errors.Is(err, errStatementRunning), errors.Is(err, errResultOpen), errors.Is(err, errSavepointOpen),
		errors.Is(err, errEndedByClosure):
		return invalidUse
	case t.commitRefused:
		return refused
	case t.connLost:
		return connLost
	}
	return failed
}
