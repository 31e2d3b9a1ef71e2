// Package poolstats collects the statistics of a pgx pool. It counts and times acquires, leases and statements, keeps totals for
// each statement text, remembers slow statements and lists the current leases with their stacks.
//
// A lease is a connection that is currently checked out of the pool, from its acquire to its release.
package poolstats

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// Config configures a [Collector].
type Config struct {
	// Disabled turns off everything that takes time or memory for each lease and statement.
	Disabled bool
	// Slow is the duration from which a statement counts as slow. 0: no statement does.
	Slow time.Duration
	// LongLease is the duration from which a lease is reported. 0: no lease is, unless LimitLease sets a limit.
	LongLease time.Duration
	// Statements is the number of statement texts to keep.
	Statements int
	// Log logs every statement at debug level.
	Log    bool
	Logger *zap.Logger
	// OnExecution receives every statement, batch and COPY that has ended, with its context, unless Disabled is set.
	OnExecution func(ctx context.Context, e Execution)
	// OnError receives the error of every failed statement and preparation, with its context.
	OnError func(ctx context.Context, conn *pgx.Conn, err error)
	// CheckedOut returns the number of connections that are checked out of the pool.
	CheckedOut func() int
}

// Collector collects the statistics of one pool. It is safe for concurrent use. Its [Collector.Tracer] reports statements to it;
// its owner adds connections and reports acquires and releases.
type Collector struct {
	cfg        Config
	clock      clock
	counters   counters
	statements statementTable
	slow       slowLog
	longLease  *LeaseLimit
	checker    leaseChecker

	mu      sync.Mutex
	conns   map[*Conn]struct{}
	hijacks hijackSearch
}

// New returns a collector. Close ends its background work.
func New(cfg Config) *Collector {
	if cfg.Disabled {
		cfg.Slow, cfg.LongLease, cfg.Statements = 0, 0, 0
	}
	c := &Collector{
		cfg: cfg, clock: clock{time.Now()}, statements: statementTable{capacity: cfg.Statements}, conns: make(map[*Conn]struct{}),
	}
	c.longLease = NewLeaseLimit(cfg.LongLease, cfg.Logger, "connection has been held for a long time; check that it is released on every path",
		"long-held connection was released")
	c.checker.check = c.checkLeases
	c.checker.require(cfg.LongLease)
	return c
}

// Now returns the time since the collector was made, which is the time of EndAcquire.
func (c *Collector) Now() time.Duration { return c.clock.now() }

// Close stops the detection of long-held leases.
func (c *Collector) Close() { c.checker.stop() }

// customDataKey is the key of a *Conn in the custom data of its pgx connection, where it is found without a lock that
// connections share.
const customDataKey = "rdsfx.poolstats"

// Add starts to collect statistics about a new connection of the pool. backendStarted is for StalledStatement.
func (c *Collector) Add(conn *pgx.Conn, backendStarted int64) *Conn {
	added := &Conn{conn: conn, opened: time.Now(), backendStarted: backendStarted}
	conn.PgConn().CustomData()[customDataKey] = added
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[added] = struct{}{}
	return added
}

// Remove forgets a connection that the pool closes.
func (c *Collector) Remove(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// ConnOf returns what Add has returned for a connection, nil for connections that were not added and for those that are known
// to be hijacked.
func ConnOf(conn *pgx.Conn) *Conn {
	found, _ := conn.PgConn().CustomData()[customDataKey].(*Conn)
	if found == nil || found.hijacked.Load() {
		return nil
	}
	return found
}

// connections returns the connections of the pool.
func (c *Collector) connections() []*Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetHijacked()
	return slices.Collect(maps.Keys(c.conns))
}

// Leases returns the current leases, the oldest first. If Config.Disabled is set it returns none.
func (c *Collector) Leases() []Lease {
	conns, start := c.connections(), c.clock.start()
	if c.cfg.Disabled {
		return nil
	}
	leases := make([]Lease, 0, len(conns))
	for _, conn := range conns {
		if lease, ok := conn.Lease(start); ok {
			leases = append(leases, lease)
		}
	}
	slices.SortFunc(leases, func(a, b Lease) int { return a.Since.Compare(b.Since) })
	return leases
}

// CloseLeased closes the sockets of all connections that are checked out. Their holders get an error from their next operation.
func (c *Collector) CloseLeased() {
	for _, conn := range c.connections() {
		if _, leased := conn.leaseNumber(); leased {
			_ = conn.conn.PgConn().Conn().Close() // the connection is given up: its error does not matter
		}
	}
}
