package pgfx_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestPercentilesAreWithinAnEighthOfTheTruth(t *testing.T) {
	t.Parallel()
	for _, top := range []int64{5, 20, 1_000, 1_000_000, int64(time.Hour), 1<<63 - 1} {
		durations := make([]time.Duration, 1000)
		for i := range durations {
			durations[i] = time.Duration(rand.Int64N(top))
		}
		got := pgfx.DurationStatsOf(durations)
		slices.Sort(durations)
		for percent, value := range map[int]time.Duration{50: got.P50, 95: got.P95, 99: got.P99} {
			exact := durations[len(durations)*percent/100-1]
			assert.GreaterOrEqual(t, value, exact, "p%d below %d", percent, top)
			assert.LessOrEqual(t, float64(value), float64(exact)*1.125+1, "p%d below %d", percent, top)
		}
		assert.Equal(t, durations[len(durations)-1], got.Max)
		assert.EqualValues(t, 1000, got.Count)
	}
	assert.Equal(t, pgfx.DurationStats{}, pgfx.DurationStatsOf(nil))
	assert.Equal(t, time.Duration(0), pgfx.DurationStatsOf([]time.Duration{-time.Second}).Max, "a clock that went backwards")
}

func TestAHistogramLosesNothingWhenItsCellsAreFull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		d    time.Duration
		many int64
	}{
		"by their number": {1, 1<<23 - 5000},
		"by their sum":    {time.Second, 2},
		"being long":      {time.Minute, 0}, // they go past the cells
	} {
		var h pgfx.Histogram
		if test.many > 0 {
			h.Preload(test.d, test.many)
		}
		times := test.many
		for range 10_000 {
			h.Record(test.d)
			times++
		}
		assert.Positive(t, h.Moved(), name)
		got := h.Stats()
		assert.Equal(t, times, got.Count, name)
		assert.Equal(t, test.d, got.Average, name)
		assert.Equal(t, test.d, got.P50, name)
		assert.Equal(t, test.d, got.Max, name)
	}
}

func TestAHistogramIsExactWhenManyRecordAndRead(t *testing.T) {
	t.Parallel()
	const each, longest, spread = 20_000, 1_080 * time.Millisecond, 200 * time.Millisecond // a few hundred fill a cell, and some are too long
	var (
		h    pgfx.Histogram
		sum  atomic.Int64
		wg   sync.WaitGroup
		done = make(chan struct{})
	)
	for range 4 {
		wg.Go(func() {
			for range each {
				d := longest - time.Duration(rand.Int64N(int64(spread)))
				sum.Add(int64(d))
				h.Record(d)
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for seen, reading := int64(0), true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		now := h.Stats().Count
		assert.GreaterOrEqual(t, now, seen, "nothing is missing while it is moved")
		seen = now
	}
	got := h.Stats()
	assert.EqualValues(t, 4*each, got.Count)
	assert.Equal(t, time.Duration(sum.Load()/(4*each)), got.Average)
	assert.Positive(t, h.Moved())
}
