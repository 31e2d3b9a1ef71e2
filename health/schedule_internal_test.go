package health

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestSchedule_MoveUpNeverDelays(t *testing.T) {
	t.Parallel()
	last := time.Unix(1000, 0)
	calm := schedule{last: last, next: last.Add(time.Minute)}

	s := calm
	assert.True(t, s.moveUp(confirmedGap))
	assert.Equal(t, last, s.next, "at once")
	assert.True(t, s.early)
	assert.False(t, s.moveUp(confirmedGap))

	s = calm
	assert.True(t, s.moveUp(suspectedGap))
	assert.Equal(t, last.Add(suspectedGap), s.next)
	assert.True(t, s.moveUp(confirmedGap))

	s = calm
	s.afterEarly = true
	assert.True(t, s.moveUp(confirmedGap))
	assert.Equal(t, last.Add(confirmedGap), s.next, "not at once a second time")
	assert.False(t, s.moveUp(suspectedGap))
	assert.Equal(t, last.Add(confirmedGap), s.next)
}

func TestBackoff_ProbesSoonerDuringProblems(t *testing.T) {
	t.Parallel()
	p := backoff{interval: 30 * time.Second}
	calm := decision{from: Up, to: Up}
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, 27*time.Second, p.next(calm, false, 1))

	fell := decision{from: Up, to: Down, cause: pgfx.CauseRefused, probeSoon: true}
	down := fell
	down.from = Down
	waits := []time.Duration{p.next(fell, false, 0)}
	for range 30 {
		waits = append(waits, p.next(down, false, 0))
	}
	assert.Equal(t, []time.Duration{1e8, 2e8, 4e8, 8e8, 8e8}, waits[:5])
	assert.Equal(t, maxTransientDelay, slices.Max(waits), "the end of the problem is noticed within 1 s")
	assert.Equal(t, maxTransientDelay/2, p.next(down, false, 1))

	down.cause = pgfx.CauseLogin
	assert.Equal(t, maxDelay, p.next(down, false, 0))
	for _, cause := range []pgfx.Cause{pgfx.CauseTLS, pgfx.CauseDatabaseMissing, pgfx.CauseServerFull} {
		assert.False(t, decision{cause: cause}.isTransient(), cause)
	}
	for _, cause := range []pgfx.Cause{pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown, pgfx.CauseStartingUp} {
		assert.True(t, decision{cause: cause}.isTransient(), cause)
	}
	assert.True(t, decision{demoted: true}.isTransient(), "a new writer may be promoted at any moment")
	assert.False(t, decision{reasons: []Reason{ReasonPoolExhausted}}.isTransient())
	down.recovering = true
	assert.Equal(t, confirmationDelay, p.next(down, false, 0.7))
	assert.Equal(t, 30*time.Second, p.next(calm, false, 0))
	assert.Equal(t, initialDelay, p.next(calm, true, 0), "a full pool causes an early probe")
	assert.Equal(t, 2*initialDelay, p.next(calm, true, 0))
	p.next(calm, false, 0)
	assert.Equal(t, initialDelay, p.next(calm, true, 0))

	short := backoff{interval: time.Millisecond}
	assert.Equal(t, time.Millisecond, short.next(fell, false, 0))
	assert.Equal(t, time.Millisecond, short.next(down, false, 0))
	assert.GreaterOrEqual(t, short.next(fell, false, 1), time.Duration(0))
}
