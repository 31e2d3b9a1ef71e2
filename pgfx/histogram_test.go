package pgfx_test

import (
	"math/rand/v2"
	"slices"
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
