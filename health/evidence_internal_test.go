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
		want evidence
	}{
		{code("57P01"), strong},
		{code("57P03"), strong},
		{code("53300"), strong},
		{code("28P01"), strong},
		{code("25006"), strong | refusedWrite},
		{io.ErrUnexpectedEOF, strong},
		{syscall.ECONNRESET, strong},
		{context.DeadlineExceeded, soft},
		{&pgfx.AcquireTimeoutError{}, soft},
		{code("23505"), 0},
		{code("40001"), 0},
		{code("57014"), 0},
		{context.Canceled, 0},
		{&pgfx.UnavailableError{Cause: io.EOF}, 0},
		{errors.New("anything"), 0},
	} {
		assert.Equal(t, c.want, weigh(c.err), c.err)
	}
	assert.Equal(t, strongGap, (strong | connects).gap())
	assert.Equal(t, softGap, soft.gap())
}

func TestEvidencePullsTheNextLookForwardAndNeverBack(t *testing.T) {
	t.Parallel()
	last := time.Unix(1000, 0)
	calm := schedule{last: last, next: last.Add(time.Minute)}

	s := calm
	assert.True(t, s.pull(strongGap))
	assert.Equal(t, last, s.next, "at once")
	assert.True(t, s.pulled)
	assert.False(t, s.pull(strongGap))

	s = calm
	assert.True(t, s.pull(softGap))
	assert.Equal(t, last.Add(softGap), s.next)
	assert.True(t, s.pull(strongGap))

	s = calm
	s.wary = true
	assert.True(t, s.pull(strongGap))
	assert.Equal(t, last.Add(strongGap), s.next, "not at once again")
	assert.False(t, s.pull(softGap))
	assert.Equal(t, last.Add(strongGap), s.next)
}

func TestThatNewConnectionsFailIsNoNewsOnceThereIsACause(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "host="+t.TempDir())
	if weigh(err) != strong|connects {
		t.Fatalf("weighed as %d: %v", weigh(err), err)
	}
	last := time.Unix(1000, 0)
	planned := last.Add(time.Minute)
	m := &Monitor{kick: make(chan struct{}, 1), schedule: schedule{last: last, next: planned}}
	m.status.Cause = pgfx.CauseServerFull
	m.hear(err)
	assert.Equal(t, planned, m.schedule.next, "a full server is asked at its own pace")
	assert.Empty(t, m.kick)
	m.hear(io.ErrUnexpectedEOF)
	assert.Equal(t, last, m.schedule.next)
	assert.Len(t, m.kick, 1)
}

func TestASilenceThatGoesOnIsLookedIntoLessAndLessOften(t *testing.T) {
	t.Parallel()
	var w stallWatch
	start := time.Unix(1000, 0)
	assert.False(t, w.see(start, false))
	assert.True(t, w.see(start, true))
	assert.False(t, w.see(start.Add(stallAfter-1), true))
	assert.True(t, w.see(start.Add(stallAfter), true))
	assert.False(t, w.see(start.Add(2*stallAfter), true), "the gap doubles")
	assert.True(t, w.see(start.Add(3*stallAfter), true))
	assert.False(t, w.see(start.Add(4*stallAfter), false))
	assert.True(t, w.see(start.Add(4*stallAfter), true), "a new silence is another matter")
}
