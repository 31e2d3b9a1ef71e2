package histogram_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/internal/histogram"
)

func TestHistogram_PercentilesAreWithinAnEighth(t *testing.T) {
	t.Parallel()
	for _, top := range []int64{5, 20, 1_000, 1_000_000, int64(time.Hour), 1<<63 - 1} {
		var h histogram.Histogram
		durations := make([]time.Duration, 1000)
		for i := range durations {
			durations[i] = time.Duration(rand.Int64N(top))
			h.Record(durations[i])
		}
		got := h.Summary()
		slices.Sort(durations)
		for percent, value := range map[int]time.Duration{50: got.P50, 95: got.P95, 99: got.P99} {
			exact := durations[len(durations)*percent/100-1]
			assert.GreaterOrEqual(t, value, exact, "p%d below %d", percent, top)
			assert.LessOrEqual(t, float64(value), float64(exact)*1.125+1, "p%d below %d", percent, top)
		}
		assert.Equal(t, durations[len(durations)-1], got.Max)
		assert.EqualValues(t, 1000, got.Count)
	}
}

func TestHistogram_EmptyAndNegative(t *testing.T) {
	t.Parallel()
	var h histogram.Histogram
	assert.Zero(t, h.Summary())
	h.Record(-time.Second)
	assert.Equal(t, histogram.Summary{Count: 1}, h.Summary(), "a negative duration counts as zero")
}

func TestHistogram_IsExactUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	const workers, each = 4, 20_000
	var (
		h    histogram.Histogram
		sum  atomic.Int64
		wg   sync.WaitGroup
		done = make(chan struct{})
	)
	for range workers {
		wg.Go(func() {
			for range each {
				d := time.Duration(rand.Int64N(int64(time.Second)))
				sum.Add(int64(d))
				h.Record(d)
			}
		})
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for last, reading := int64(0), true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		count := h.Summary().Count
		assert.GreaterOrEqual(t, count, last)
		last = count
	}
	got := h.Summary()
	assert.EqualValues(t, workers*each, got.Count)
	assert.Equal(t, time.Duration(sum.Load()), h.Sum())
	assert.Equal(t, time.Duration(sum.Load()/(workers*each)), got.Average)
}

func BenchmarkHistogram(b *testing.B) {
	var h histogram.Histogram
	for b.Loop() {
		h.Record(1234)
	}
}
