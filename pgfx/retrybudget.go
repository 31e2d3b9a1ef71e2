package pgfx

import (
	"sync"
	"sync/atomic"
	"time"
)

// RetryBudget limits retries to a share of the calls plus a small reserve, so that retries do not multiply the load on a
// failing database. All policies that share the budget draw from it.
//
// Every call adds the share, and every retry takes 1. Unused retries accumulate up to the reserve. The reserve also
// refills with time, by 10 % per second.
//
// A RetryBudget is safe for concurrent use. A nil *RetryBudget sets no limit.
type RetryBudget struct {
	share, full int64 // in millionths of a retry
	left        atomic.Int64

	calls, retries, refused atomic.Int64

	mu       sync.Mutex
	refilled time.Time
}

const (
	// DefaultRetryShare is the default number of retries per call.
	DefaultRetryShare = 0.1
	// DefaultRetryReserve is the default number of retries allowed beyond that share.
	DefaultRetryReserve = 10

	oneRetry      = 1_000_000
	refillSeconds = 10 // time in which an empty reserve refills without calls
)

// NewRetryBudget returns a full budget. share is the number of retries per call, from 0 to 1; zero means
// [DefaultRetryShare]. reserve is the number of retries beyond that share, 1 or more; zero means [DefaultRetryReserve].
// Values outside these ranges are set to the nearest limit.
func NewRetryBudget(share float64, reserve int) *RetryBudget {
	setDefault(&share, DefaultRetryShare)
	setDefault(&reserve, DefaultRetryReserve)
	b := &RetryBudget{share: int64(min(max(share, 0), 1) * oneRetry), full: int64(max(reserve, 1)) * oneRetry, refilled: time.Now()}
	b.left.Store(b.full)
	return b
}

// deposit counts a call.
func (b *RetryBudget) deposit() {
	if b == nil {
		return
	}
	b.calls.Add(1)
	if b.left.Load() < b.full { // concurrent calls may exceed the limit slightly, which is harmless
		b.left.Add(b.share)
	}
}

// Withdraw takes one retry from the budget. It returns false if none is left. Call it only in code that counts attempts by
// itself: a [RetryPolicy] withdraws from its own budget.
func (b *RetryBudget) Withdraw() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	refill := int64(min(now.Sub(b.refilled).Seconds()/refillSeconds, 1) * float64(b.full))
	b.refilled = now
	left := min(b.left.Load()+refill, b.full)
	if left < oneRetry {
		b.left.Add(refill)
		b.refused.Add(1)
		return false
	}
	b.left.Store(left - oneRetry) // loses the deposit of a concurrent call, which is a fraction of one retry
	b.retries.Add(1)
	return true
}

// RetryStats counts the use of a [RetryBudget].
type RetryStats struct {
	// Calls is the number of calls begun.
	Calls int64 `json:"calls"`
	// Retries is the number of attempts beyond the first.
	Retries int64 `json:"retries"`
	// Refused is the number of retries that the budget did not allow.
	Refused int64 `json:"refused"`
}

// Stats returns the counts since the budget was created, zero for a nil budget.
func (b *RetryBudget) Stats() RetryStats {
	if b == nil {
		return RetryStats{}
	}
	return RetryStats{Calls: b.calls.Load(), Retries: b.retries.Load(), Refused: b.refused.Load()}
}
