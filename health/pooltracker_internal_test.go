package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestPoolTracker_ExhaustedAndStalled(t *testing.T) {
	t.Parallel()
	var p poolTracker
	start := time.Unix(1000, 0)
	update := func(after time.Duration, inUse, waiting int, released int64) observation {
		var o observation
		stats := pgfx.Stats{Pool: pgfx.PoolStats{Max: 4, Open: inUse, InUse: inUse, Waiting: waiting}, Use: pgfx.DurationStats{Count: released}}
		p.update(start.Add(after), stats, &o)
		return o
	}
	assert.Equal(t, observation{}, update(0, 0, 0, 5))
	assert.Equal(t, observation{connected: true}, update(time.Second, 4, 3, 5))
	assert.True(t, p.isFull())
	assert.Equal(t, observation{connected: true}, update(1999*time.Millisecond, 4, 3, 5))
	assert.Equal(t, observation{connected: true, exhausted: true}, update(2*time.Second, 4, 3, 5))
	assert.Equal(t, observation{connected: true, exhausted: true}, update(9*time.Second, 4, 3, 6))
	assert.Equal(t, observation{connected: true, exhausted: true}, update(18*time.Second, 4, 3, 6), "9 s after the last release")
	assert.Equal(t, observation{connected: true, exhausted: true, stalled: true}, update(19*time.Second, 4, 3, 6))
	assert.Equal(t, observation{connected: true}, update(20*time.Second, 4, 0, 6), "a full pool without waiting callers is no problem")
	assert.False(t, p.isFull())
	assert.Equal(t, observation{connected: true}, update(21*time.Second, 4, 1, 6))
	assert.Equal(t, observation{connected: true}, update(21*time.Second, 3, 1, 6))
}
