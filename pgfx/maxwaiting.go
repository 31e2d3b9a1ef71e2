package pgfx

import (
	"fmt"
	"sync/atomic"
)

// waitLimit refuses acquires while as many callers wait as Pool.MaxWaiting permits.
type waitLimit struct {
	most int64 // 0 for no limit
	// waiting counts the acquires that have not found a connection yet.
	waiting atomic.Int64
}

// begin counts an acquire. It returns an [*OverloadError] if too many callers wait, which then does not count.
func (l *waitLimit) begin(db *DB) error {
	if l.most == 0 {
		return nil
	}
	waiting := l.waiting.Add(1)
	if waiting <= l.most {
		return nil
	}
	// Each connection that is idle, being opened or not open yet serves one of the callers.
	stat := db.pool.Stat()
	if waiting-int64(stat.MaxConns()-stat.AcquiredConns()) <= l.most {
		return nil
	}
	l.waiting.Add(-1)
	return &OverloadError{Waiting: int(l.most), InUse: int(stat.AcquiredConns()), Max: int(stat.MaxConns())}
}

// end is called when the acquire has found a connection or failed.
func (l *waitLimit) end() { l.waiting.Add(-1) }

// OverloadError is returned at once if all connections are in use and Pool.MaxWaiting callers wait already. It matches
// [ErrOverload].
type OverloadError struct {
	// Waiting is the number of callers that may wait.
	Waiting int
	// InUse is the number of connections in use.
	InUse int
	// Max is the limit of the pool, including MaxOverflow.
	Max int
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("pgfx: overload: %d of %d connections are in use and %d callers wait already; shed load, "+
		"raise Pool.MaxConns or Pool.MaxWaiting, or hold connections for less time", e.InUse, e.Max, e.Waiting)
}

// Is matches ErrOverload.
func (e *OverloadError) Is(target error) bool { return target == ErrOverload }
