package poolstats

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// Counts is a snapshot of the counters of a [Collector].
type Counts struct {
	Waiting                                           int64 // acquires in progress
	Acquired, AcquireErrors, AcquireTimeouts          int64
	AcquiresRefused                                   int64
	ConnectFailures                                   int64
	LongLeases                                        int64
	StatementErrors, SlowStatements, StatementEvicted int64
	StatementErrorsByClass                            map[string]int64

	Waits, Leases, Statements, Prepares, Connects histogram.Summary
}

type counters struct {
	acquiring, acquired, acquireErrors, acquireTimeouts, acquiresRefused, released, connectFailures, statementErrors atomic.Int64

	untimed atomic.Int64 // statements without a duration

	waits, leases, statements, prepares, connects histogram.Histogram

	mu      sync.Mutex
	byClass map[string]int64 // statement errors by SQLSTATE class
}

// Counts returns a snapshot.
func (c *Collector) Counts() Counts {
	n := &c.counters
	s := Counts{
		Waiting: n.acquiring.Load(), Acquired: n.acquired.Load(), AcquireErrors: n.acquireErrors.Load(),
		AcquireTimeouts: n.acquireTimeouts.Load(),
		AcquiresRefused: n.acquiresRefused.Load(), ConnectFailures: n.connectFailures.Load(), LongLeases: c.longLease.Exceeded(),
		StatementErrors: n.statementErrors.Load(), SlowStatements: c.slow.total(), StatementEvicted: c.statements.evicted(),
		Waits: n.waits.Summary(), Leases: n.leases.Summary(), Statements: n.statements.Summary(),
		Prepares: n.prepares.Summary(), Connects: n.connects.Summary(),
	}
	s.Statements.Count += n.untimed.Load()
	if c.cfg.Disabled {
		s.Leases.Count = n.released.Load()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.StatementErrorsByClass = maps.Clone(n.byClass)
	return s
}

// RefuseAcquire counts an acquire that was refused before it reached the pool.
func (c *Collector) RefuseAcquire() { c.counters.acquiresRefused.Add(1) }

// BeginAcquire counts an acquire that has begun.
func (c *Collector) BeginAcquire() { c.counters.acquiring.Add(1) }

// FailAcquire counts an acquire that has failed. timedOut reports that no connection became available in time.
func (c *Collector) FailAcquire(waited time.Duration, timedOut bool) {
	c.counters.acquiring.Add(-1)
	c.counters.acquireErrors.Add(1)
	if timedOut {
		c.counters.acquireTimeouts.Add(1)
	}
	c.counters.waits.Record(waited)
}

// EndAcquire counts an acquire that has succeeded, and begins a lease at a time of Now. waited is 0 if a connection was idle.
func (c *Collector) EndAcquire(conn *Conn, at, waited time.Duration) {
	c.counters.acquiring.Add(-1)
	c.counters.acquired.Add(1)
	if waited > 0 {
		c.counters.waits.Record(waited)
	}
	if conn != nil {
		conn.begin(at, !c.cfg.Disabled)
	}
}

// BeginLease begins the lease of a connection that was checked out without an acquire, at a time of Now.
func (c *Collector) BeginLease(conn *Conn, at time.Duration) { conn.begin(at, !c.cfg.Disabled) }

// Release counts a connection that is being released, and ends its lease at a time of Now. It returns how long the lease took.
func (c *Collector) Release(conn *Conn, at time.Duration) (took time.Duration) {
	if conn != nil {
		var limit *LeaseLimit
		var reported bool
		took, limit, reported = conn.end(at)
		if !c.cfg.Disabled {
			c.counters.leases.Record(took)
		}
		if reported {
			if limit == nil {
				limit = c.longLease
			}
			limit.reportEnd(conn.conn.PgConn().PID(), took)
		}
	}
	c.counters.released.Add(1)
	return took
}

// Connected counts a connection that was opened, and how long that took.
func (c *Collector) Connected(took time.Duration) { c.counters.connects.Record(took) }

// ConnectFailed counts an attempt to open a connection that failed.
func (c *Collector) ConnectFailed() { c.counters.connectFailures.Add(1) }

// recordExecution counts an execution and reports it.
func (c *Collector) recordExecution(ctx context.Context, e Execution) {
	c.counters.statements.Record(e.Took)
	if e.entry != nil {
		e.entry.record(e.Took, e.Tag.RowsAffected(), e.Err)
	}
	if c.cfg.Log {
		c.logExecution(ctx, &e)
	}
	if c.cfg.Slow > 0 && e.Took >= c.cfg.Slow {
		c.recordSlow(ctx, &e)
	}
	c.cfg.OnExecution(ctx, e) // by value, so that e stays on the stack
}

// recordError counts the error of a statement, if there is one, and reports it.
func (c *Collector) recordError(ctx context.Context, conn *pgx.Conn, err error) {
	if err == nil {
		return
	}
	c.counters.recordError(err)
	c.cfg.OnError(ctx, conn, err)
}

func (n *counters) recordError(err error) {
	n.statementErrors.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byClass == nil {
		n.byClass = make(map[string]int64)
	}
	n.byClass[sqlstate.Class(err)]++ // bounded: PostgreSQL has fewer than fifty classes, and extensions add few
}
