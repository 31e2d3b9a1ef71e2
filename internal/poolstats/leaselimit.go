package poolstats

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
)

// LeaseLimit is the duration from which leases are reported, and how. It is safe for concurrent use.
type LeaseLimit struct {
	after           time.Duration
	logger          *zap.Logger
	exceeded, ended string
	count           atomic.Int64
}

// NewLeaseLimit returns a limit of after. For a lease that lasts longer it logs the message exceeded as a warning, and the message
// ended when the lease ends. If after is 0 or less, leases with this limit are not reported.
func NewLeaseLimit(after time.Duration, logger *zap.Logger, exceeded, ended string) *LeaseLimit {
	return &LeaseLimit{after: after, logger: logger, exceeded: exceeded, ended: ended}
}

// Exceeded returns the number of leases that were reported.
func (l *LeaseLimit) Exceeded() int64 { return l.count.Load() }

// LimitLease replaces Config.LongLease by limit for the current lease of a connection.
func (c *Collector) LimitLease(conn *Conn, limit *LeaseLimit) {
	if c.cfg.Disabled || limit.after <= 0 {
		return
	}
	conn.mu.Lock()
	if conn.leased {
		conn.limit = limit
	}
	conn.mu.Unlock()
	c.checker.require(limit.after)
}

// checkLeases reports leases that have exceeded their limit, each once. It returns the time until the next one could, -1 if
// there is none.
func (c *Collector) checkLeases() (next time.Duration) {
	next = -1
	for _, conn := range c.connections() {
		if left := c.checkLease(conn); left > 0 && (next < 0 || left < next) {
			next = left
		}
	}
	return next
}

// checkLease reports the current lease of a connection if it has exceeded its limit, once. It returns the time until the lease
// could exceed its limit, 0 if there is nothing left to report.
func (c *Collector) checkLease(conn *Conn) (left time.Duration) {
	conn.mu.Lock()
	limit := cmp.Or(conn.limit, c.longLease)
	if !conn.leased || conn.reported || limit.after <= 0 {
		conn.mu.Unlock()
		return 0
	}
	if left = limit.after - (c.clock.now() - conn.acquired); left > 0 {
		conn.mu.Unlock()
		return left
	}
	conn.reported = true
	lease := conn.lease(c.clock.start())
	conn.mu.Unlock()
	limit.report(lease)
	return 0
}

func (l *LeaseLimit) report(lease Lease) {
	l.count.Add(1)
	fields := []zap.Field{zap.Uint32("pid", lease.PID), zap.Duration("held", time.Since(lease.Since))}
	if lease.Statement != "" {
		fields = append(fields, zap.String("last_statement", lease.Statement))
	}
	if len(lease.Stack) > 0 {
		stack := make([]string, len(lease.Stack))
		for i, frame := range lease.Stack {
			stack[i] = caller.Position(frame)
		}
		fields = append(fields, zap.Strings("stack", stack))
	}
	l.logger.Warn(l.exceeded, fields...)
}

func (l *LeaseLimit) reportEnd(pid uint32, held time.Duration) {
	l.logger.Info(l.ended, zap.Uint32("pid", pid), zap.Duration("held", held))
}

// minCheckInterval keeps tiny limits from taking up a processor.
const minCheckInterval = time.Millisecond

// leaseChecker calls check when the next lease could exceed its limit, by a timer. A lease that begins after a check can't
// exceed its limit before the shortest limit has passed, so acquires need not arm the timer.
type leaseChecker struct {
	check    func() (next time.Duration)
	shortest atomic.Int64 // the shortest limit, 0 if there is none

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// require makes the checker run often enough for leases with this limit, if it is positive.
func (l *leaseChecker) require(limit time.Duration) {
	if shortest := time.Duration(l.shortest.Load()); limit <= 0 || shortest > 0 && shortest <= limit {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if shortest := time.Duration(l.shortest.Load()); l.stopped || shortest > 0 && shortest <= limit {
		return
	}
	l.shortest.Store(int64(limit))
	if l.timer == nil {
		l.timer = time.AfterFunc(limit, l.run)
	} else {
		l.timer.Reset(limit)
	}
}

func (l *leaseChecker) run() {
	next := l.check()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	if shortest := time.Duration(l.shortest.Load()); next < 0 || next > shortest {
		next = shortest
	}
	l.timer.Reset(max(next, minCheckInterval))
}

func (l *leaseChecker) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
