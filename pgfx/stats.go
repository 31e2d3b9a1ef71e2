package pgfx

import (
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// Stats is a snapshot of a pool and of what went through it since the DB was opened. The figures are read one by one
// while the pool is in use, so that sums may be off by what happened in between.
type Stats struct {
	Pool       PoolStats      `json:"pool"`
	Statements StatementStats `json:"statements"`
	Wait       DurationStats  `json:"wait"` // how long acquires took that had to wait, for a connection in use or a new one
	Use        DurationStats  `json:"use"`  // from acquire to release
	Uptime     time.Duration  `json:"uptime"`
}

// PoolStats counts connections and those who want one.
type PoolStats struct {
	Max        int `json:"max"`
	Open       int `json:"open"` // idle, in use and being opened
	Idle       int `json:"idle"`
	InUse      int `json:"in_use"`
	Connecting int `json:"connecting"`
	Waiting    int `json:"waiting"` // callers inside Acquire

	Acquired        int64 `json:"acquired"`         // acquires that succeeded
	AcquireErrors   int64 `json:"acquire_errors"`   // acquires that failed, timeouts included
	Refused         int64 `json:"refused"`          // acquires that the gate refused
	Connected       int64 `json:"connected"`        // connections opened
	ConnectFailures int64 `json:"connect_failures"` // attempts to open one that failed
	Expired         int64 `json:"expired"`          // connections closed for their age
	IdleClosed      int64 `json:"idle_closed"`      // connections closed for having been idle
}

// StatementStats counts statements; a batch and a COPY count as one.
type StatementStats struct {
	DurationStats

	Errors int64 `json:"errors"`
	// ErrorsByClass counts the errors by SQLSTATE class, for example "23" for integrity constraint violations; errors
	// without an SQLSTATE (lost connections, cancelled contexts) are under "".
	ErrorsByClass map[string]int64 `json:"errors_by_class,omitempty"`
}

// DurationStats describes how long something took. The percentiles are exact to within 13 %.
type DurationStats struct {
	Count   int64         `json:"count"`
	Average time.Duration `json:"average"`
	P50     time.Duration `json:"p50"`
	P95     time.Duration `json:"p95"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
}

// Stats returns a snapshot. It is safe for concurrent use and takes no lock that the pool's users take, save pgxpool's own.
func (db *DB) Stats() Stats {
	stat, c := db.pool.Stat(), &db.counters
	return Stats{
		Pool: PoolStats{
			Max: int(stat.MaxConns()), Open: int(stat.TotalConns()), Idle: int(stat.IdleConns()), InUse: int(stat.AcquiredConns()),
			Connecting: int(stat.ConstructingConns()), Waiting: int(max(0, c.waiting.Load())),
			Acquired: c.acquired.Load(), AcquireErrors: c.acquireErrors.Load(), Refused: c.refused.Load(),
			Connected: c.connected.Load(), ConnectFailures: c.connectFailures.Load(),
			Expired: stat.MaxLifetimeDestroyCount(), IdleClosed: stat.MaxIdleDestroyCount(),
		},
		Statements: StatementStats{DurationStats: c.statements.stats(), Errors: c.errors.Load(), ErrorsByClass: c.classes()},
		Wait:       c.waits.stats(),
		Use:        c.uses.stats(),
		Uptime:     time.Since(db.opened),
	}
}

// counters are what the watch counts.
type counters struct {
	waiting, acquired, refused, acquireErrors, connected, connectFailures, errors atomic.Int64

	waits, uses, statements histogram

	mu      sync.Mutex
	byClass map[string]int64
}

func (c *counters) statement(took time.Duration, err error) {
	c.statements.record(took)
	if err == nil {
		return
	}
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

// histogram counts durations in buckets whose width is an eighth of a power of two, as HDR histograms do. Recording is two
// atomic additions and no lock.
type histogram struct {
	sum, largest atomic.Int64
	buckets      [buckets]atomic.Int64
}

const (
	subBits = 3 // 2^3 buckets to each power of two: off by at most an eighth
	buckets = (64 - subBits) << subBits
)

func bucketOf(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	exponent := bits.Len64(ns) - subBits - 1
	return exponent<<subBits + int(ns>>exponent) //nolint:gosec // below 512
}

// bucketTop is the largest duration that falls into a bucket.
func bucketTop(bucket int) time.Duration {
	if bucket < 1<<(subBits+1) {
		return time.Duration(bucket)
	}
	exponent := bucket>>subBits - 1
	mantissa := int64(bucket&(1<<subBits-1) | 1<<subBits)
	return time.Duration((mantissa+1)<<exponent - 1)
}

func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	h.buckets[bucketOf(uint64(d))].Add(1)
	for {
		largest := h.largest.Load()
		if int64(d) <= largest || h.largest.CompareAndSwap(largest, int64(d)) {
			return
		}
	}
}

func (h *histogram) stats() DurationStats {
	var counts [buckets]int64
	var total int64
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	if total == 0 {
		return DurationStats{}
	}
	largest := time.Duration(h.largest.Load())
	percentile := func(p int64) time.Duration {
		rank, seen := (total*p+99)/100, int64(0) //nolint:mnd // per cent
		for i, n := range &counts {
			if seen += n; seen >= rank {
				return min(bucketTop(i), largest)
			}
		}
		return largest
	}
	return DurationStats{
		Count: total, Average: time.Duration(h.sum.Load() / total),
		P50: percentile(50), P95: percentile(95), P99: percentile(99), Max: largest, //nolint:mnd // per cent
	}
}
