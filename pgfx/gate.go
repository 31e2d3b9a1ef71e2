package pgfx

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Gate is a circuit breaker in front of the pool. While it is closed, every acquire and every dial of the pool fails at once
// with an [*UnavailableError], also for users of the raw pool. Connections that [DB.Connect] opens pass a closed gate.
//
// The gate is closed until the setup steps have run. From then on the health monitor opens and closes it. A Gate is safe for
// concurrent use.
type Gate struct {
	closed atomic.Pointer[UnavailableError] // nil while the gate is open
	held   atomic.Pointer[hold]             // nil unless callers wait

	pacer *dialPacer // of the pool

	mu sync.Mutex // held while closed changes
	// setupDone is set once the setup steps have run, at setupEnded.
	setupDone  bool
	setupEnded time.Time
	// closedFor is the sum of the times for which the gate was closed after the setup.
	closedFor time.Duration
}

// Open lets acquires and dials pass. It does not open the gate of a DB that was closed. Until the setup steps have run, it lets
// only the setup steps pass; all others get [ErrSetupNotFinished].
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release()
	current := g.closed.Load()
	switch {
	case current == nil || current.Cause == ErrClosed: //nolint:errorlint // the sentinel itself, set by DB.Close
	case g.setupDone:
		g.closedFor += g.closedSinceSetup(current)
		g.closed.Store(nil)
		g.pacer.resume()
	case !errors.Is(current.Cause, ErrSetupNotFinished):
		g.closed.Store(&UnavailableError{Cause: ErrSetupNotFinished, Since: current.Since})
		g.pacer.resume()
	}
}

// finishSetup opens the gate for everyone, unless it is closed for another reason than the setup.
func (g *Gate) finishSetup() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.setupDone, g.setupEnded = true, time.Now()
	if current := g.closed.Load(); current != nil && errors.Is(current.Cause, ErrSetupNotFinished) {
		g.closed.Store(nil)
	}
}

// closedTime returns for how long the gate has been closed since the setup steps have run, in total.
func (g *Gate) closedTime() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	total := g.closedFor
	if current := g.closed.Load(); current != nil && g.setupDone {
		total += g.closedSinceSetup(current)
	}
	return total
}

// closedSinceSetup returns for how long the gate has been closed without a break since the setup. The caller holds g.mu.
func (g *Gate) closedSinceSetup(current *UnavailableError) time.Duration {
	return min(time.Since(current.Since), time.Since(g.setupEnded))
}

// setupKey is the key of a context value that holds the DB whose setup steps run with the context.
type setupKey struct{}

// check returns nil if an acquire or a dial with ctx may pass, and the *UnavailableError otherwise.
func (g *Gate) check(ctx context.Context, db *DB) error {
	closed := g.closed.Load()
	if closed == nil {
		return nil
	}
	if errors.Is(closed.Cause, ErrSetupNotFinished) && ctx.Value(setupKey{}) == db {
		return nil
	}
	return closed
}

// hold makes callers wait.
type hold struct {
	released chan struct{}
	until    time.Time
}

// Hold makes acquires and dials wait, for limit at most, until the gate is opened or closed. It has no effect before the
// setup steps have run and after [DB.Close]. The health monitor calls it while a Blue/Green switchover moves the database, which
// takes seconds.
func (g *Gate) Hold(limit time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if current := g.closed.Load(); current != nil && current.Cause != ErrClosed && g.setupDone { //nolint:errorlint // the sentinel itself
		g.closedFor += g.closedSinceSetup(current)
		g.closed.Store(nil)
	}
	if g.held.Load() == nil {
		g.held.Store(&hold{make(chan struct{}), time.Now().Add(limit)})
	}
}

// release ends a hold. The caller must hold g.mu.
func (g *Gate) release() {
	if held := g.held.Swap(nil); held != nil {
		close(held.released)
		g.pacer.resume()
	}
}

// pass is check for a caller that waits while the gate is held. If the wait takes longer than the limit of the hold or than
// timeout, unless that is 0, the error matches [ErrSwitching].
func (g *Gate) pass(ctx context.Context, db *DB, timeout time.Duration) error {
	held := g.held.Load()
	if held == nil {
		return g.check(ctx, db)
	}
	if err := g.check(ctx, db); err != nil {
		return err
	}
	wait := time.Until(held.until)
	if timeout > 0 {
		wait = min(wait, timeout)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	began := time.Now()
	select {
	case <-held.released:
		return g.check(ctx, db)
	case <-ctx.Done():
	case <-timer.C:
	}
	return &UnavailableError{Cause: ErrSwitching, Since: began}
}

// Close makes acquires and dials fail with an UnavailableError of this cause, also those that wait for other attempts to connect. If
// the gate is closed already, it replaces the cause and keeps the time.
func (g *Gate) Close(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.release()
	since := time.Now()
	if current := g.closed.Load(); current != nil {
		if current.Cause == ErrClosed { //nolint:errorlint // the sentinel itself, set by DB.Close
			return
		}
		since = current.Since
	}
	closed := &UnavailableError{Cause: cause, Since: since}
	g.closed.Store(closed)
	g.pacer.refuse(closed)
}

// Err returns nil while the gate is open, and the *UnavailableError that callers get while it is closed.
func (g *Gate) Err() error {
	if closed := g.closed.Load(); closed != nil {
		return closed
	}
	return nil
}
