package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestAnErrorIsWeighedByWhatItSaysAboutTheServer(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return fmt.Errorf("statement: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err  error
		want signal
	}{
		{code("57P01"), confirmed},
		{code("57P03"), confirmed},
		{code("53300"), confirmed},
		{code("28P01"), confirmed},
		{code("25006"), confirmed | writeRefused},
		{io.ErrUnexpectedEOF, confirmed},
		{syscall.ECONNRESET, confirmed},
		{context.DeadlineExceeded, suspected},
		{&pgfx.AcquireTimeoutError{}, suspected},
		{code("23505"), 0},
		{code("40001"), 0},
		{code("57014"), 0},
		{context.Canceled, 0},
		{&pgfx.UnavailableError{Cause: io.EOF}, 0},
		{errors.New("anything"), 0},
	} {
		assert.Equal(t, c.want, signalOf(c.err), c.err)
	}
	assert.Equal(t, confirmedGap, (confirmed | connectFailed).gap())
	assert.Equal(t, suspectedGap, suspected.gap())
}

func TestEvidencePullsTheNextLookForwardAndNeverBack(t *testing.T) {
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
	assert.Equal(t, last.Add(confirmedGap), s.next, "not at once again")
	assert.False(t, s.moveUp(suspectedGap))
	assert.Equal(t, last.Add(confirmedGap), s.next)
}

func TestThatNewConnectionsFailIsNoNewsOnceThereIsACause(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "host="+t.TempDir())
	if signalOf(err) != confirmed|connectFailed {
		t.Fatalf("weighed as %d: %v", signalOf(err), err)
	}
	last := time.Unix(1000, 0)
	planned := last.Add(time.Minute)
	m := &Monitor{rescheduled: make(chan struct{}, 1), schedule: schedule{last: last, next: planned}}
	m.status.Cause = pgfx.CauseServerFull
	m.recordFailure(err)
	assert.Equal(t, planned, m.schedule.next, "a full server is asked at its own pace")
	assert.Empty(t, m.rescheduled)
	m.recordFailure(io.ErrUnexpectedEOF)
	assert.Equal(t, last, m.schedule.next)
	assert.Len(t, m.rescheduled, 1)
}

func TestASilenceThatGoesOnIsLookedIntoLessAndLessOften(t *testing.T) {
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
	assert.True(t, w.isDue(start.Add(4*stalledAfter), true), "a new silence is another matter")
}
