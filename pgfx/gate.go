package pgfx

import (
	"sync/atomic"
	"time"
)

// Gate is a circuit breaker in front of the pool. While it is closed, every acquire and every dial of the pool fails at once
// with an [*UnavailableError], also for users of the raw pool. Connections that [DB.Connect] opens pass a closed gate.
//
// The gate is closed until a start succeeds. From then on the health monitor opens and closes it. A Gate is safe for
// concurrent use.
type Gate struct {
	closed atomic.Pointer[UnavailableError] // nil while the gate is open
}

// Open lets acquires and dials pass. It does not open the gate of a DB that was closed.
func (g *Gate) Open() {
	for {
		current := g.closed.Load()
		if current == nil || current.Cause == ErrClosed { //nolint:errorlint // the sentinel itself, set by DB.Close
			return
		}
		if g.closed.CompareAndSwap(current, nil) {
			return
		}
	}
}

// Close makes acquires and dials fail with an UnavailableError of this cause. If the gate is closed already, it replaces the
// cause and keeps the time.
func (g *Gate) Close(cause error) {
	next := &UnavailableError{Cause: cause, Since: time.Now()}
	for {
		current := g.closed.Load()
		if current != nil {
			if current.Cause == ErrClosed { //nolint:errorlint // the sentinel itself, set by DB.Close
				return
			}
			next.Since = current.Since
		}
		if g.closed.CompareAndSwap(current, next) {
			return
		}
	}
}

// Err returns nil while the gate is open, and the *UnavailableError that callers get while it is closed.
func (g *Gate) Err() error {
	if closed := g.closed.Load(); closed != nil {
		return closed
	}
	return nil
}
