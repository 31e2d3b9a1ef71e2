package pgfx

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// DurationStats describes how long something took. The percentiles are exact to within 13 %.
type DurationStats struct {
	Count   int64         `json:"count"`
	Average time.Duration `json:"average"`
	P50     time.Duration `json:"p50"`
	P95     time.Duration `json:"p95"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
}

// Histogram collects durations in buckets whose width is an eighth of a power of two, as HDR histograms do. Its zero value
// is ready for use, and it is safe for concurrent use: recording is one atomic addition and no lock, save for durations
// of a second and more. It takes 2 KB, and 6 KB once it has seen one of those or very many. It must not be copied.
type Histogram struct {
	largest atomic.Int64
	// cells have for each bucket the number of its durations in their low countBits bits, and their sum above.
	cells [cells]atomic.Uint64
	// used has a bit for each cell that was ever added to: most never are.
	used [(cells + 63) / 64]atomic.Uint64

	mu    sync.Mutex
	moved *movedDurations // nil before there are any
}

// movedDurations are those that cells have no room for.
type movedDurations struct {
	sum    time.Duration
	counts [buckets]int64
}

const (
	subBits = 3 // 2^3 buckets to each power of two: off by at most an eighth
	buckets = (64 - subBits) << subBits

	countBits = 24
	countMask = 1<<countBits - 1
	// A cell is emptied when its count or its sum is half of what it can be. Until that is done hundreds of others may add to
	// it: durations of 2^cellBits ns, about a second, and more don't go into cells.
	halfFull = 1<<63 | 1<<(countBits-1)
	cellBits = 30
	cells    = (cellBits - subBits + 1) << subBits
)

// Record adds a duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	bucket := bucketOf(uint64(d))
	if bucket >= cells {
		h.mu.Lock()
		h.move(bucket, 1, uint64(d))
		h.mu.Unlock()
	} else if cell := h.cells[bucket].Add(uint64(d)<<countBits | 1); cell&countMask == 1 {
		h.used[bucket/64].Or(1 << (bucket % 64))
	} else if cell&halfFull != 0 {
		h.mu.Lock() // whoever reads meets what is moved either here or there
		cell = h.cells[bucket].Swap(0)
		h.move(bucket, cell&countMask, cell>>countBits)
		h.mu.Unlock()
	}
	for {
		largest := h.largest.Load()
		if int64(d) <= largest || h.largest.CompareAndSwap(largest, int64(d)) {
			return
		}
	}
}

func (h *Histogram) move(bucket int, count, sum uint64) {
	if h.moved == nil {
		h.moved = &movedDurations{}
	}
	h.moved.counts[bucket] += int64(count) //nolint:gosec // at most countMask
	h.moved.sum += time.Duration(sum)      //nolint:gosec // was made of durations
}

// Stats describes what has been recorded.
func (h *Histogram) Stats() DurationStats {
	var counts [buckets]int64
	sum := h.read(&counts)
	total := int64(0)
	for _, n := range &counts {
		total += n
	}
	if total == 0 {
		return DurationStats{}
	}
	largest := time.Duration(h.largest.Load())
	percentile := func(p int64) time.Duration {
		rank, seen := (total*p+99)/100, int64(0)
		for i, n := range &counts {
			if seen += n; seen >= rank {
				return min(bucketTop(i), largest)
			}
		}
		return largest
	}
	return DurationStats{
		Count: total, Average: sum / time.Duration(total),
		P50: percentile(50), P95: percentile(95), P99: percentile(99), Max: largest,
	}
}

// read fills in how many durations there are in each bucket, and returns their sum.
func (h *Histogram) read(counts *[buckets]int64) (sum time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.moved != nil {
		sum, *counts = h.moved.sum, h.moved.counts
	}
	for i, cell := range h.filled() {
		sum += time.Duration(cell >> countBits)
		counts[i] += int64(cell & countMask)
	}
	return sum
}

// total is the sum of what has been recorded.
func (h *Histogram) total() (sum time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.moved != nil {
		sum = h.moved.sum
	}
	for _, cell := range h.filled() {
		sum += time.Duration(cell >> countBits)
	}
	return sum
}

// filled goes through the cells that were ever added to, by their bucket.
func (h *Histogram) filled() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i := range h.used {
			for used := h.used[i].Load(); used != 0; used &= used - 1 {
				bucket := i*64 + bits.TrailingZeros64(used)
				if !yield(bucket, h.cells[bucket].Load()) {
					return
				}
			}
		}
	}
}

func bucketOf(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	exponent := bits.Len64(ns) - subBits - 1
	return exponent<<subBits + int(ns>>exponent) //nolint:gosec // below 512
}

// bucketTop is the largest duration that falls into a bucket.
func bucketTop(bucket int) time.Duration {
	if bucket < 1<<(subBits+1) {
		return time.Duration(bucket)
	}
	exponent := bucket>>subBits - 1
	mantissa := int64(bucket&(1<<subBits-1) | 1<<subBits)
	return time.Duration((mantissa+1)<<exponent - 1)
}
