package pgfx

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// DurationStats summarizes durations. In JSON each duration is a number of nanoseconds. The percentiles are exact to within
// 13 % and never too small.
type DurationStats struct {
	Count   int64         `json:"count"`
	Average time.Duration `json:"average"`
	P50     time.Duration `json:"p50"`
	P95     time.Duration `json:"p95"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
}

// Stats is a snapshot of a pool and of what went through it since the DB was opened. The figures are read one by one
// while the pool is in use, so that sums may be off by what happened in between.
type Stats struct {
	Pool       PoolStats      `json:"pool"`
	Statements StatementStats `json:"statements"`
	Prepare    DurationStats  `json:"prepare"` // preparing statements; a part of the time of the statement that needed it
	Wait       DurationStats  `json:"wait"`    // how long acquires took that had to wait, for a connection in use or a new one
	Use        DurationStats  `json:"use"`     // from acquire to release
	Connect    DurationStats  `json:"connect"` // opening connections, login included
	Retries    RetryStats     `json:"retries"` // of those who call Retry with DB.RetryPolicy, the library's own included
	Uptime     time.Duration  `json:"uptime"`
}

// PoolStats counts connections and those who want one.
type PoolStats struct {
	Max        int `json:"max"`
	Open       int `json:"open"` // idle, in use and being opened
	Idle       int `json:"idle"`
	InUse      int `json:"in_use"`
	Connecting int `json:"connecting"`
	Waiting    int `json:"waiting"` // callers who wait for a connection, for one in use or a new one

	Acquired        int64 `json:"acquired"`         // acquires that succeeded
	AcquireErrors   int64 `json:"acquire_errors"`   // acquires that failed, timeouts included
	Refused         int64 `json:"refused"`          // acquires that the gate refused
	Connected       int64 `json:"connected"`        // connections opened
	ConnectFailures int64 `json:"connect_failures"` // attempts to open one that failed
	Expired         int64 `json:"expired"`          // connections closed for their age
	IdleClosed      int64 `json:"idle_closed"`      // connections closed for having been idle
	LongHeld        int64 `json:"long_held"`        // leases that were reported for lasting longer than Config.Stats.Leak
}

// StatementStats counts statements; a batch and a COPY count as one.
type StatementStats struct {
	DurationStats

	Errors int64 `json:"errors"`
	// ErrorsByClass counts the errors by SQLSTATE class, for example "23" for integrity constraint violations; errors
	// without an SQLSTATE (lost connections, cancelled contexts) are under "".
	ErrorsByClass map[string]int64 `json:"errors_by_class,omitempty"`
	// Slow is how many took Config.Stats.Slow or longer.
	Slow int64 `json:"slow"`
	// Evicted is how many texts have made room for others in DB.Statements.
	Evicted int64 `json:"evicted"`
}

// Stats returns a snapshot. It is safe for concurrent use and takes no lock that the pool's users take, save pgxpool's own
// and those for failures, slow statements and new texts.
func (db *DB) Stats() Stats {
	stat, c := db.pool.Stat(), &db.counters
	s := Stats{
		Pool: PoolStats{
			Max: int(stat.MaxConns()), Open: int(stat.TotalConns()), Idle: int(stat.IdleConns()), InUse: int(stat.AcquiredConns()),
			Connecting: int(stat.ConstructingConns()), Waiting: int(c.waiting.Load()),
			Acquired: c.acquired.Load(), AcquireErrors: c.acquireErrors.Load(), Refused: c.refused.Load(),
			ConnectFailures: c.connectFailures.Load(), LongHeld: db.leaks.usual.Exceeded(),
			Expired: stat.MaxLifetimeDestroyCount(), IdleClosed: stat.MaxIdleDestroyCount(),
		},
		Statements: StatementStats{
			DurationStats: DurationStats(c.statements.Summary()), Errors: c.errors.Load(), ErrorsByClass: c.classes(),
			Slow: db.slow.total(), Evicted: db.statements.evictions(),
		},
		Prepare: DurationStats(c.prepares.Summary()),
		Wait:    DurationStats(c.waits.Summary()),
		Use:     DurationStats(c.uses.Summary()),
		Connect: DurationStats(c.connects.Summary()),
		Retries: db.retry.Budget.Stats(),
		Uptime:  time.Since(db.opened),
	}
	s.Pool.Connected = s.Connect.Count
	s.Statements.Count += c.untimed.Load()
	if db.config.Stats.Disabled {
		s.Use.Count = c.returned.Load()
	}
	return s
}

// counters are what the watch counts.
type counters struct {
	acquired, returned, waiting, refused, acquireErrors, connectFailures, errors atomic.Int64
	// untimed statements took no time worth noting, or nobody looked at the clock.
	untimed atomic.Int64

	waits, uses, statements, prepares, connects histogram.Histogram

	mu      sync.Mutex
	byClass map[string]int64
}

// failed counts a statement's error.
func (c *counters) failed(err error) {
	c.errors.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byClass == nil {
		c.byClass = make(map[string]int64)
	}
	c.byClass[sqlstate.Class(err)]++ // bounded: the manual lists fewer than fifty classes, and extensions add few
}

func (c *counters) classes() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byClass)
}
