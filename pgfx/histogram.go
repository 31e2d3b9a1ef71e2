package pgfx

import (
	"math/bits"
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
// is ready for use, and it is safe for concurrent use: recording is two atomic additions and no lock. It takes 4 KB and
// must not be copied.
type Histogram struct {
	sum, largest atomic.Int64
	buckets      [buckets]atomic.Int64
}

const (
	subBits = 3 // 2^3 buckets to each power of two: off by at most an eighth
	buckets = (64 - subBits) << subBits
)

// Record adds a duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	h.buckets[bucketOf(uint64(d))].Add(1)
	for {
		largest := h.largest.Load()
		if int64(d) <= largest || h.largest.CompareAndSwap(largest, int64(d)) {
			return
		}
	}
}

// Stats describes what has been recorded.
func (h *Histogram) Stats() DurationStats {
	var counts [buckets]int64
	var total int64
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
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
		Count: total, Average: time.Duration(h.sum.Load() / total),
		P50: percentile(50), P95: percentile(95), P99: percentile(99), Max: largest,
	}
}

// total is the sum of what has been recorded.
func (h *Histogram) total() time.Duration { return time.Duration(h.sum.Load()) }

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
