package txn

import (
	"sync"
	"sync/atomic"
)

// The states of a transaction.
const (
	idle int32 = iota // no call is running and no result is open
	busy              // a call is running or a result is open
	done              // Do is ending the transaction or has ended it
)

// exclusive lets one goroutine at a time use the connection of a transaction, and none once the transaction has ended.
//
// A use begins with begin and ends with finish. An open result is one use of several calls: pause ends a call, and resume
// begins the next one.
type exclusive struct {
	state atomic.Int32
	// call is held while a call is running, so that the end of the transaction can wait for it. A goroutine that has locked
	// it touches the connection only if the state isn't done.
	call sync.Mutex
}

// begin begins a use with its first call. The error is ErrConcurrentUse or ErrTxDone.
func (e *exclusive) begin() error {
	if !e.state.CompareAndSwap(idle, busy) {
		if e.ended() {
			return ErrTxDone
		}
		return ErrConcurrentUse
	}
	return e.resume()
}

// resume begins another call of a use. The error is ErrTxDone.
func (e *exclusive) resume() error {
	e.call.Lock()
	if e.ended() {
		e.call.Unlock()
		return ErrTxDone
	}
	return nil
}

// pause ends a call and keeps the use.
func (e *exclusive) pause() { e.call.Unlock() }

// finish ends a call and the use.
func (e *exclusive) finish() {
	e.state.CompareAndSwap(busy, idle) // a state of done stays
	e.call.Unlock()
}

// end refuses every further call. It reports whether a use was open, of which a call may still be running.
func (e *exclusive) end() (inUse bool) { return e.state.Swap(done) == busy }

func (e *exclusive) ended() bool { return e.state.Load() == done }

// calling reports whether a call is running. After end no other call can follow it.
func (e *exclusive) calling() bool {
	if e.call.TryLock() {
		e.call.Unlock()
		return false
	}
	return true
}

// wait returns a channel that is closed when no call is running. It is meant for use after end.
func (e *exclusive) wait() <-chan struct{} {
	free := make(chan struct{})
	go func() {
		e.call.Lock()
		defer e.call.Unlock()
		close(free)
	}()
	return free
}
