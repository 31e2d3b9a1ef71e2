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
	s := schedule{last: last, next: last.Add(time.Minute)}
	assert.True(t, s.pull(time.Second))
	assert.Equal(t, last.Add(time.Second), s.next)
	assert.False(t, s.pull(time.Second))
	assert.False(t, s.pull(2*time.Second))
	assert.Equal(t, last.Add(time.Second), s.next)
}
