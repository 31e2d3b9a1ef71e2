package poolstats

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/caller"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// Conn is the state of one pooled connection. Its mutex is rarely contended: the holder of the connection takes it for each
// acquire, release and statement, others only for snapshots.
type Conn struct {
	conn           *pgx.Conn
	opened         time.Time
	backendStarted int64       // see StalledStatement
	hijacked       atomic.Bool // known to be hijacked from the pool

	mu sync.Mutex

	// The current lease.
	leased   bool
	leases   int64         // counts the leases of the connection, which identifies one
	acquired time.Duration // on the collector's clock, as all times of a Conn
	stack    [stackDepth]uintptr
	depth    int         // number of frames in stack
	limit    *LeaseLimit // nil: Collector.longLease
	reported bool

	// The running statement, or the last one of the lease.
	text    string
	batch   []*pgx.QueuedQuery // nil if it is no batch
	began   time.Duration
	running bool
	number  int64 // counts the statements of the connection, which identifies one
	refused int   // statements that began while another was running: pgx is about to refuse them as "conn busy"

	prepareBegan  time.Duration
	prepared      time.Duration // time to prepare the running statement
	lastSuccess   time.Duration // when a statement last succeeded, 0 if none has
	stacks        rateLimit
	entries       map[string]*statementEntry // see entry
	normalizedBuf []byte
}

const (
	// stackDepth is the number of frames that a lease and a slow statement keep.
	stackDepth = 24

	// Capturing a stack takes 5 µs, longer than the rest of an acquire. A connection captures 32 in a row and then one every
	// 250 µs on average, which is at most 2 % of its time. Only applications that acquire the same connection more often than that,
	// many times in a row, have leases without a stack.
	stackBurst    = 32
	stackInterval = 250 * time.Microsecond
)

// Lease is a connection that is currently checked out of the pool.
type Lease struct {
	PID       uint32
	Since     time.Time
	Statement string // normalized text of the last statement, "" if there was none
	Stack     []runtime.Frame
}

// begin starts a lease. It captures a stack if stack is set.
func (c *Conn) begin(at time.Duration, stack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leased, c.acquired, c.depth = true, at, 0
	c.leases++
	if stack && c.stacks.allow(at, stackBurst, stackInterval) {
		c.depth = runtime.Callers(2, c.stack[:]) // without runtime.Callers and this method
	}
}

// end ends the lease. It returns how long it took, and the limit if it was reported for exceeding it.
func (c *Conn) end(at time.Duration) (took time.Duration, limit *LeaseLimit, reported bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took, limit, reported = at-c.acquired, c.limit, c.reported
	c.leased, c.limit, c.reported = false, nil, false
	c.text, c.batch, c.running, c.refused = "", nil, false, 0 // the text may be a part of something large
	return took, limit, reported
}

// Lease returns the current lease, or false while the connection is idle. start is that of the collector's clock.
func (c *Conn) Lease(start time.Time) (Lease, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leased {
		return Lease{}, false
	}
	return c.lease(start), true
}

func (c *Conn) lease(start time.Time) Lease {
	return Lease{
		PID: c.conn.PgConn().PID(), Since: start.Add(c.acquired),
		Statement: string(sqltext.Normalize(nil, c.text)), Stack: caller.Frames(c.stack[:c.depth]),
	}
}

// beginStatement notes that a statement, a batch or a COPY begins.
func (c *Conn) beginStatement(text string, batch []*pgx.QueuedQuery, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.refused++
		return
	}
	c.text, c.batch, c.began, c.running, c.prepared = text, batch, at, true, 0
	c.number++
}

// Execution is a statement, a batch or a COPY that has ended. The fields are those of pgfx.StatementEvent.
type Execution struct {
	Text     string
	Batch    []*pgx.QueuedQuery
	Tag      pgconn.CommandTag
	Took     time.Duration
	Prepared time.Duration
	PID      uint32
	Err      error

	began time.Duration
	entry *statementEntry // nil for a batch, whose statements are counted one by one, and if none is kept
}

// ending is what a call of endStatement has ended.
type ending int

const (
	endedRunning ending = iota // the running statement has ended
	endedRefused               // pgx has refused a statement because another one is running
	endedTwice                 // nothing is running: pgx reports the end of a batch twice if it could not be sent
)

// endStatement notes that a statement has ended, and finds its entry in table.
func (c *Conn) endStatement(table *statementTable, at time.Duration, tag pgconn.CommandTag, err error) (Execution, ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.refused > 0:
		c.refused--
		return Execution{}, endedRefused
	case !c.running:
		return Execution{}, endedTwice
	}
	c.running = false
	if err == nil {
		c.lastSuccess = at
	}
	e := Execution{
		Text: c.text, Batch: c.batch, Tag: tag, Took: at - c.began, Prepared: c.prepared, PID: c.conn.PgConn().PID(), Err: err, began: c.began,
	}
	if table.capacity > 0 && e.Batch == nil {
		e.entry = c.entry(table, e.Text, e.began)
	}
	c.batch = nil
	return e, endedRunning
}

const (
	maxCachedTexts   = 512
	maxCachedTextLen = 4 << 10
)

// entry returns the entry of a statement in table. The connection caches entries by the texts that it executes. Normalizing a
// text would take longer than all other statistics of a statement, and the table's lock is shared. The caller holds c.mu.
func (c *Conn) entry(table *statementTable, text string, at time.Duration) *statementEntry {
	cached, ok := c.entries[text]
	if ok && !cached.evicted.Load() {
		return cached
	}
	c.normalizedBuf = sqltext.Normalize(c.normalizedBuf[:0], text)
	entry := table.find(c.normalizedBuf, at)
	switch {
	case ok:
		c.entries[text] = entry // keeps the key
	case len(text) <= maxCachedTextLen:
		if c.entries == nil || len(c.entries) >= maxCachedTexts {
			c.entries = make(map[string]*statementEntry)
		}
		c.entries[strings.Clone(text)] = entry // text may be a part of something large
	}
	return entry
}
