package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStalledBackoff_GapDoubles(t *testing.T) {
	t.Parallel()
	var w stalledBackoff
	start := time.Unix(1000, 0)
	assert.False(t, w.isDue(start, false))
	assert.True(t, w.isDue(start, true))
	assert.False(t, w.isDue(start.Add(stalledAfter-1), true))
	assert.True(t, w.isDue(start.Add(stalledAfter), true))
	assert.False(t, w.isDue(start.Add(2*stalledAfter), true), "the gap doubles")
	assert.True(t, w.isDue(start.Add(3*stalledAfter), true))
	assert.False(t, w.isDue(start.Add(4*stalledAfter), false))
	assert.True(t, w.isDue(start.Add(4*stalledAfter), true), "another stall starts again without a gap")
}
