package txn

import (
	"sync"
	"sync/atomic"
)

// exclusive lets one goroutine at a time use the connection of a transaction, and none once the transaction has ended.
//
// A connection is idle, busy or done. It is busy while a call is running and while a result is open, because several calls read
// the result. begin starts a call on an idle connection. pause ends a call and leaves the connection busy. resume starts the
// next call, and finish ends the last one. end makes the connection done.
type exclusive struct {
	call sync.Mutex  // locked while a call is running
	open bool        // a result is open; guarded by call
	done atomic.Bool // a goroutine that locks call afterwards must not touch the connection
}

// begin starts a call on an idle connection. The error is ErrConcurrentUse or ErrTxDone.
func (e *exclusive) begin() error {
	if !e.call.TryLock() {
		if e.done.Load() {
			return ErrTxDone
		}
		return ErrConcurrentUse
	}
	switch {
	case e.done.Load():
		e.call.Unlock()
		return ErrTxDone
	case e.open:
		e.call.Unlock()
		return ErrConcurrentUse
	}
	return nil
}

// pause ends a call that leaves a result open.
func (e *exclusive) pause() {
	e.open = true
	e.call.Unlock()
}

// resume starts another call on an open result. The error is ErrTxDone.
func (e *exclusive) resume() error {
	e.call.Lock()
	if e.done.Load() {
		e.call.Unlock()
		return ErrTxDone
	}
	return nil
}

// finish ends a call that leaves no result open.
func (e *exclusive) finish() {
	e.open = false
	e.call.Unlock()
}

// end refuses further calls. It reports whether the connection is busy, and whether that is because a call is running.
func (e *exclusive) end() (busy, calling bool) {
	e.done.Store(true)
	if !e.call.TryLock() {
		return true, true
	}
	defer e.call.Unlock()
	return e.open, false
}

// wait returns a channel that is closed when no call is running any more. Call it after end.
func (e *exclusive) wait() <-chan struct{} {
	free := make(chan struct{})
	go func() {
		e.call.Lock()
		defer e.call.Unlock()
		close(free)
	}()
	return free
}
