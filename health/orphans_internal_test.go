package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestOrphanBackoff_WaitDoubles(t *testing.T) {
	t.Parallel()
	var b orphanBackoff
	now := time.Unix(1000, 0)
	assert.True(t, b.isDue(now))
	assert.True(t, b.note(now, true), "the first failure is logged")
	assert.False(t, b.isDue(now.Add(minGap-1)))
	assert.True(t, b.isDue(now.Add(minGap)))
	assert.False(t, b.note(now, true), "the next one is not")
	assert.False(t, b.isDue(now.Add(2*minGap-1)))
	for range 20 {
		b.note(now, true)
	}
	assert.False(t, b.isDue(now.Add(maxOrphanWait-1)))
	assert.True(t, b.isDue(now.Add(maxOrphanWait)))
	assert.False(t, b.note(now, false))
	assert.True(t, b.isDue(now))
	assert.True(t, b.note(now, true))
}
