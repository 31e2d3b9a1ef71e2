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

func TestBackoff_OutageIsProbedOften(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	p := backoff{interval: 30 * time.Second}
	fell := decision{from: Up, to: Down, cause: pgfx.CauseRefused, probeSoon: true}
	assert.Equal(t, minDelay, p.next(began, fell, false, 0))
	down := fell
	down.from = Down
	for after, wait := range map[time.Duration]time.Duration{
		time.Second: minDelay, 12 * time.Second: minDelay, 28 * time.Second: 2 * minDelay, 80 * time.Second: maxDelay, time.Hour: maxDelay,
	} {
		assert.Equal(t, wait, p.next(began.Add(after), down, false, 0), after)
		assert.Equal(t, wait*9/10, p.next(began.Add(after), down, false, 1), after)
	}
	down.recovering = true
	assert.Equal(t, confirmationDelay, p.next(began.Add(time.Hour), down, false, 0.7))
	assert.Less(t, maxDelay+confirmationDelay, time.Second, "the end is noticed within 1 s")

	for _, cause := range []pgfx.Cause{
		pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown, pgfx.CauseStartingUp, pgfx.CauseTLS, pgfx.CauseDatabaseMissing, pgfx.CauseServerFull,
	} {
		assert.True(t, decision{to: Down, cause: cause}.mayEndAtAnyMoment(), cause)
	}
	assert.True(t, decision{to: ReadOnly, demoted: true}.mayEndAtAnyMoment(), "a new writer may be promoted at any moment")
	assert.False(t, decision{to: Degraded, cause: pgfx.CauseServerFull, reasons: []Reason{ReasonServerFull}}.mayEndAtAnyMoment())

	assert.Greater(t, 8*(minDelay*9/10), time.Second, "at most 8 probes within any second")
	short := backoff{interval: time.Millisecond}
	assert.Equal(t, time.Millisecond, short.next(began, fell, false, 0))
	assert.Equal(t, time.Millisecond, short.next(began, fell, false, 0))
	assert.GreaterOrEqual(t, short.next(began, fell, false, 1), time.Duration(0))
}

func TestBackoff_RefusedLoginAndProblemsAreProbedLessAndLess(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	p := backoff{interval: 30 * time.Second}
	calm := decision{from: Up, to: Up}
	assert.Equal(t, 30*time.Second, p.next(began, calm, false, 0))
	assert.Equal(t, 27*time.Second, p.next(began, calm, false, 1))

	refused := decision{from: Up, to: Down, cause: pgfx.CauseLogin, probeSoon: true}
	waits := []time.Duration{p.next(began, refused, false, 0)}
	refused.from = Down
	for range 30 {
		waits = append(waits, p.next(began, refused, false, 0))
	}
	assert.Equal(t, []time.Duration{minDelay, 2 * minDelay, 4 * minDelay, 8 * minDelay, 16 * minDelay, 32 * minDelay, maxSlowDelay}, waits[:7])
	assert.Equal(t, maxSlowDelay, slices.Max(waits))

	assert.Equal(t, 30*time.Second, p.next(began, calm, false, 0))
	assert.Equal(t, minDelay, p.next(began, calm, true, 0), "a full pool causes an early probe")
	assert.Equal(t, 2*minDelay, p.next(began, calm, true, 0))
	p.next(began, calm, false, 0)
	assert.Equal(t, minDelay, p.next(began, calm, true, 0))
}
