package pgfx

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/caller"
)

// LeaseLimit is how long leases may last, and what is logged when one lasts longer: a warning with its age, its stack and the
// text of its last statement, without values, and a line when it ends. It must not be changed once it is in use.
type LeaseLimit struct {
	// After is the time from the acquire on. 0 or less: there is no limit.
	After time.Duration
	// Logger gets the lines.
	Logger *zap.Logger
	// Exceeds is the message about a lease that lasts too long, Ended the one about its end.
	Exceeds, Ended string

	exceeded atomic.Int64
}

// Exceeded returns how many leases have been reported.
func (l *LeaseLimit) Exceeded() int64 { return l.exceeded.Load() }

func (db *DB) limitLease(conn *pgx.Conn, limit *LeaseLimit) {
	state := stateOf(conn)
	if state == nil || limit.After <= 0 {
		return
	}
	since := time.Duration(state.since.Load())
	if since == 0 {
		return
	}
	state.limit.Store(limit)
	db.leaks.watch(since + limit.After)
}

// leakWatch reports leases that last too long. It has no goroutine: the first acquire arms a timer, which looks at the
// leases and arms itself again for the moment when the next of them would be overdue. While nothing is held none is
// armed.
type leakWatch struct {
	db    *DB
	usual LeaseLimit
	due   atomic.Int64 // when it looks, on the DB's clock; 0 while nothing is armed

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// watch makes look run at a time, or earlier where that was arranged already.
func (l *leakWatch) watch(at time.Duration) {
	if due := l.due.Load(); due != 0 && due <= int64(at) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if due := l.due.Load(); l.stopped || due != 0 && due <= int64(at) {
		return
	}
	l.due.Store(int64(at))
	after := at - l.db.now()
	if l.timer == nil {
		l.timer = time.AfterFunc(after, l.look)
		return
	}
	l.timer.Reset(after)
}

// look reports what is overdue, each lease once.
func (l *leakWatch) look() {
	l.due.Store(0) // from here on an acquire arms again
	now, next := l.db.now(), time.Duration(0)
	for _, state := range l.db.leases.states() {
		limit := l.limitOf(state)
		if limit.After <= 0 {
			continue
		}
		if since := time.Duration(state.since.Load()); since > 0 && now-since < limit.After {
			if next == 0 || since+limit.After < next {
				next = since + limit.After
			}
			continue
		}
		if lease, ok := state.report(l.db.opened, now, limit.After); ok {
			l.report(limit, lease)
		}
	}
	if next > 0 {
		l.watch(next)
	}
}

// limitOf returns the limit of a lease.
func (l *leakWatch) limitOf(state *connState) *LeaseLimit {
	if limit := state.limit.Load(); limit != nil {
		return limit
	}
	return &l.usual
}

func (l *leakWatch) report(limit *LeaseLimit, lease Lease) {
	limit.exceeded.Add(1)
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
	} else {
		l.db.wantsStacks.Store(true)
	}
	limit.Logger.Warn(limit.Exceeds, fields...)
}

// returned tells the end of a lease that was reported. limit is nil for the usual one.
func (l *leakWatch) returned(limit *LeaseLimit, pid uint32, held time.Duration) {
	if limit == nil {
		limit = &l.usual
	}
	limit.Logger.Info(limit.Ended, zap.Uint32("pid", pid), zap.Duration("held", held))
}

func (l *leakWatch) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
