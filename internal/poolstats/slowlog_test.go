package poolstats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

func TestSlowLog_BoundsLinesAndMemory(t *testing.T) {
	t.Parallel()
	var log poolstats.SlowLog
	const start = time.Hour
	var lines []int64
	for i := range 300 { // within three seconds
		if ok, omitted := log.Add(fmt.Sprint("select ", i), start+time.Duration(i)*10*time.Millisecond); ok {
			lines = append(lines, omitted)
		}
	}
	assert.Equal(t, []int64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 99}, lines, "ten at once, then one a second")
	kept := log.Texts()
	require.Len(t, kept, 100)
	assert.Equal(t, "select 299", kept[0])
	assert.Equal(t, "select 200", kept[99])

	later := start + time.Hour
	ok, omitted := log.Add("much later", later)
	assert.True(t, ok)
	assert.EqualValues(t, 99, omitted)
	for range 9 {
		ok, _ = log.Add("at once", later)
		assert.True(t, ok)
	}
	ok, _ = log.Add("one too many", later)
	assert.False(t, ok)
}
