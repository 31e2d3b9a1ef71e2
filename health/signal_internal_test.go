package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestSignalOf_ClassifiesErrors(t *testing.T) {
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
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, net.ErrClosed), suspected},
		{fmt.Errorf("%w: %w", context.Canceled, net.ErrClosed), 0},
		{&pgfx.UnavailableError{Cause: io.EOF}, 0},
		{errors.New("anything"), 0},
	} {
		assert.Equal(t, c.want, signalOf(c.err), c.err)
	}
	assert.Equal(t, confirmedGap, (confirmed | connectFailed).gap())
	assert.Equal(t, suspectedGap, suspected.gap())
}

func TestMonitor_IgnoresConnectFailuresOfKnownCause(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "host="+t.TempDir())
	if signalOf(err) != confirmed|connectFailed {
		t.Fatalf("classified as %d: %v", signalOf(err), err)
	}
	last := time.Unix(1000, 0)
	planned := last.Add(time.Minute)
	m := &Monitor{rescheduled: make(chan struct{}, 1), schedule: schedule{last: last, next: planned}}
	m.status.Cause = pgfx.CauseServerFull
	m.recordFailure(err)
	assert.Equal(t, planned, m.schedule.next, "backoff applies to a full server")
	assert.Empty(t, m.rescheduled)
	m.recordFailure(io.ErrUnexpectedEOF)
	assert.Equal(t, last, m.schedule.next)
	assert.Len(t, m.rescheduled, 1)
}
