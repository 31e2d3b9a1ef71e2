package pgfx

import "time"

// Stats is a snapshot of a pool and of its traffic since the DB was opened. The figures are read one by one while the pool is
// in use, so their sums may be off by what happens meanwhile. In JSON, durations are numbers of nanoseconds.
type Stats struct {
	// Pool counts connections and acquires.
	Pool PoolStats `json:"pool"`
	// Statements counts statements.
	Statements StatementStats `json:"statements"`
	// Prepare is the time to prepare statements, which is part of the duration of the statements that needed it.
	Prepare DurationStats `json:"prepare"`
	// Wait is the wait time of acquires that could not be served immediately.
	Wait DurationStats `json:"wait"`
	// Use is the duration of leases, from acquire to release.
	Use DurationStats `json:"use"`
	// Connect is the time to open connections, including the login.
	Connect DurationStats `json:"connect"`
	// Retries counts the retries that follow [DB.RetryPolicy].
	Retries RetryStats `json:"retries"`
	// GateClosed is how long the gate has refused all work since the setup steps have run, in total.
	GateClosed time.Duration `json:"gate_closed"`
	// Uptime is the time since the DB was opened.
	Uptime time.Duration `json:"uptime"`
}

// DurationStats summarizes durations. In JSON, durations are numbers of nanoseconds. The percentiles are exact to within 13 %
// and never too small.
type DurationStats struct {
	Count   int64         `json:"count"`
	Average time.Duration `json:"average"`
	P50     time.Duration `json:"p50"`
	P95     time.Duration `json:"p95"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
}

// PoolStats counts connections and acquires. The first group are current values, the second are totals.
type PoolStats struct {
	Max        int `json:"max"`        // the limit
	Open       int `json:"open"`       // connections that are idle, in use or connecting
	Idle       int `json:"idle"`       // connections that are not checked out
	InUse      int `json:"in_use"`     // connections that are checked out
	Connecting int `json:"connecting"` // connections that are being opened
	Waiting    int `json:"waiting"`    // acquires in progress

	Acquired         int64 `json:"acquired"`          // acquires that succeeded
	AcquireErrors    int64 `json:"acquire_errors"`    // acquires that failed, including timeouts
	AcquireTimeouts  int64 `json:"acquire_timeouts"`  // acquires that failed because no connection became available in time
	Refused          int64 `json:"refused"`           // acquires that failed at once: the gate was closed, too many waited, or a guard refused
	Connected        int64 `json:"connected"`         // connections opened
	ConnectFailures  int64 `json:"connect_failures"`  // failed attempts to open a connection
	Expired          int64 `json:"expired"`           // connections closed because of their age
	IdleClosed       int64 `json:"idle_closed"`       // connections closed because they were idle
	LongHeld         int64 `json:"long_held"`         // leases reported for exceeding Config.Stats.LongLease
	ValidationResets int64 `json:"validation_resets"` // resets of the pool because an idle connection no longer answered
}

// StatementStats counts statements. A batch and a COPY count as one statement.
type StatementStats struct {
	// DurationStats summarizes the durations of all statements, failed ones too.
	DurationStats

	// Errors is the number of failed statements.
	Errors int64 `json:"errors"`
	// ErrorsByClass counts errors by SQLSTATE class, for example "23" for integrity constraint violations. Errors without an
	// SQLSTATE, such as lost connections and cancelled contexts, have the key "".
	ErrorsByClass map[string]int64 `json:"errors_by_class,omitempty"`
	// Slow is the number of statements that took Config.Stats.Slow or longer.
	Slow int64 `json:"slow"`
	// Evicted is the number of texts that DB.Statements has dropped in favor of others.
	Evicted int64 `json:"evicted"`
}

// Stats returns a snapshot. It is safe for concurrent use.
func (db *DB) Stats() Stats {
	stat, counts := db.pool.Stat(), db.stats.Counts()
	return Stats{
		Pool: PoolStats{
			Max: int(stat.MaxConns()), Open: int(stat.TotalConns()), Idle: int(stat.IdleConns()), InUse: int(stat.AcquiredConns()),
			Connecting: int(stat.ConstructingConns()), Waiting: int(counts.Waiting),
			Acquired: counts.Acquired, AcquireErrors: counts.AcquireErrors, AcquireTimeouts: counts.AcquireTimeouts, Refused: counts.AcquiresRefused,
			Connected: counts.Connects.Count, ConnectFailures: counts.ConnectFailures,
			Expired: stat.MaxLifetimeDestroyCount(), IdleClosed: stat.MaxIdleDestroyCount(), LongHeld: counts.LongLeases,
			ValidationResets: db.validationResets.Load(),
		},
		Statements: StatementStats{
			DurationStats: DurationStats(counts.Statements), Errors: counts.StatementErrors, ErrorsByClass: counts.StatementErrorsByClass,
			Slow: counts.SlowStatements, Evicted: counts.StatementEvicted,
		},
		Prepare:    DurationStats(counts.Prepares),
		Wait:       DurationStats(counts.Waits),
		Use:        DurationStats(counts.Leases),
		Connect:    DurationStats(counts.Connects),
		Retries:    db.retry.Budget.Stats(),
		GateClosed: db.gate.closedTime(),
		Uptime:     time.Since(db.opened),
	}
}
