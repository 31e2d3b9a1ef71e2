package pgfx

import (
	"sync"
	"sync/atomic"
	"time"
)

// RetryBudget limits retries to a share of the calls and a small reserve, for all who share it: when the database fails
// everybody, retries must not multiply what it has to bear. Every call adds a share of a retry, every retry takes a whole
// one; what isn't used is kept up to the reserve, and a tenth of the reserve comes back with every second.
//
// A RetryBudget is safe for concurrent use. A nil one sets no limit.
type RetryBudget struct {
	share, full int64 // in millionths of a retry
	left        atomic.Int64

	calls, retries, refused atomic.Int64

	mu       sync.Mutex
	refilled time.Time
}

const (
	// DefaultRetryShare is how many retries there may be for each call.
	DefaultRetryShare = 0.1
	// DefaultRetryReserve is how many retries there may be beyond that share.
	DefaultRetryReserve = 10

	oneRetry       = 1_000_000
	reserveSeconds = 10 // in which time fills up the reserve
)

// NewRetryBudget makes a budget of share retries for each call, from 0 to 1, beyond a reserve of 1 or more; zero means
// [DefaultRetryShare] and [DefaultRetryReserve], what is less or more than allowed the nearest that is.
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
	if b.left.Load() < b.full { // that it may be passed by a little does no harm
		b.left.Add(b.share)
	}
}

// Withdraw takes a retry out, or returns false when there is none left: for those who count attempts by themselves. What goes
// by a [RetryPolicy] with the budget in it has it withdrawn already.
func (b *RetryBudget) Withdraw() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	back := int64(min(now.Sub(b.refilled).Seconds()/reserveSeconds, 1) * float64(b.full))
	b.refilled = now
	left := min(b.left.Load()+back, b.full)
	if left < oneRetry {
		b.left.Add(back)
		b.refused.Add(1)
		return false
	}
	b.left.Store(left - oneRetry) // a deposit that came in between is lost, which is a share of one retry
	b.retries.Add(1)
	return true
}

// RetryStats counts what was retried under a budget.
type RetryStats struct {
	Calls   int64 `json:"calls"`   // pieces of work begun
	Retries int64 `json:"retries"` // attempts beyond the first
	Refused int64 `json:"refused"` // retries that the budget refused
}

// Stats returns the counts so far.
func (b *RetryBudget) Stats() RetryStats {
	if b == nil {
		return RetryStats{}
	}
	return RetryStats{Calls: b.calls.Load(), Retries: b.retries.Load(), Refused: b.refused.Load()}
}
