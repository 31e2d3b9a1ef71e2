// Package histogram counts durations and computes percentiles of them.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Summary describes the durations that a [Histogram] has recorded. Percentiles are the upper bounds of their buckets: they
// are exact to within 13 % and never too small.
type Summary struct {
	Count   int64
	Average time.Duration
	P50     time.Duration
	P95     time.Duration
	P99     time.Duration
	Max     time.Duration
}

// Histogram counts durations in buckets, eight for each power of two, as HDR histograms do. Its zero value is ready for use.
// It is safe for concurrent use, takes no lock and must not be copied. It takes 4 KB.
type Histogram struct {
	counts   [buckets]atomic.Int64
	sum, max atomic.Int64 // in nanoseconds
}

const (
	subBits = 3 // 2^3 buckets for each power of two: a bucket is at most an eighth wider than its lower bound
	buckets = (64 - subBits) << subBits
)

// Record counts a duration. A negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))].Add(1)
	h.sum.Add(int64(d))
	for {
		longest := h.max.Load()
		if int64(d) <= longest || h.max.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// Sum returns the sum of all recorded durations.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sum.Load()) }

// Summary returns a snapshot. Durations that are recorded meanwhile may be in one figure and not in another.
func (h *Histogram) Summary() Summary {
	var counts [buckets]int64
	total := int64(0)
	for i := range counts {
		counts[i] = h.counts[i].Load()
		total += counts[i]
	}
	if total == 0 {
		return Summary{}
	}
	longest := time.Duration(h.max.Load())
	percentile := func(p int64) time.Duration {
		rank, seen := (total*p+99)/100, int64(0)
		for i, n := range &counts {
			if seen += n; seen >= rank {
				return min(upperBound(i), longest)
			}
		}
		return longest
	}
	return Summary{
		Count: total, Average: h.Sum() / time.Duration(total),
		P50: percentile(50), P95: percentile(95), P99: percentile(99), Max: longest,
	}
}

func bucketOf(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	exponent := bits.Len64(ns) - subBits - 1
	return exponent<<subBits + int(ns>>exponent) //nolint:gosec // below buckets
}

// upperBound returns the longest duration that belongs to a bucket.
func upperBound(bucket int) time.Duration {
	if bucket < 1<<(subBits+1) {
		return time.Duration(bucket)
	}
	exponent := bucket>>subBits - 1
	mantissa := int64(bucket&(1<<subBits-1) | 1<<subBits)
	return time.Duration((mantissa+1)<<exponent - 1)
}
