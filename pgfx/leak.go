package pgfx

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// leakWatch reports leases that last too long. It has no goroutine: the first acquire arms a timer, which looks at the
// leases and arms itself again for the moment when the oldest of them would be overdue. While nothing is held none is
// armed.
type leakWatch struct {
	db        *DB
	threshold time.Duration // 0: nothing is reported
	armed     atomic.Bool   // spares an acquire the lock
	overdue   atomic.Int64

	mu      sync.Mutex
	timer   *time.Timer
	due     time.Duration // on the DB's clock
	stopped bool
}

// arm makes look run after a while, or earlier where that was arranged already.
func (l *leakWatch) arm(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.db.now() + after
	if l.stopped || l.armed.Load() && l.due <= due {
		return
	}
	l.due = due
	l.armed.Store(true)
	if l.timer == nil {
		l.timer = time.AfterFunc(after, l.look)
		return
	}
	l.timer.Reset(after)
}

// look reports what is overdue, each lease once.
func (l *leakWatch) look() {
	l.armed.Store(false) // from here on an acquire arms again
	now, next := l.db.now(), time.Duration(0)
	for _, state := range l.db.leases.states() {
		if since := time.Duration(state.since.Load()); since > 0 && now-since < l.threshold {
			next = max(next, now-since)
			continue
		}
		if lease, ok := state.report(l.db.opened, now, l.threshold); ok {
			l.report(lease)
		}
	}
	if next > 0 {
		l.arm(l.threshold - next)
	}
}

func (l *leakWatch) report(lease Lease) {
	l.overdue.Add(1)
	fields := []zap.Field{zap.Uint32("pid", lease.PID), zap.Duration("held", time.Since(lease.Since))}
	if lease.Statement != "" {
		fields = append(fields, zap.String("last_statement", string(normalise(nil, lease.Statement))))
	}
	if len(lease.Stack) > 0 {
		stack := make([]string, len(lease.Stack))
		for i, frame := range lease.Stack {
			stack[i] = position(frame)
		}
		fields = append(fields, zap.Strings("stack", stack))
	} else {
		l.db.wantsStacks.Store(true)
	}
	l.db.logger.Warn("a connection is held for long; is it released on every path?", fields...)
}

// returned tells the end of a lease that was reported.
func (l *leakWatch) returned(pid uint32, held time.Duration) {
	l.db.logger.Info("a connection that was held for long is back", zap.Uint32("pid", pid), zap.Duration("held", held))
}

func (l *leakWatch) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
