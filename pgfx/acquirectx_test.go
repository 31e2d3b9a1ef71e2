package pgfx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

type valueKey struct{}

// TestAcquireContext_KeepsTheContract holds the context of an acquire to the contract of context.Context.
func TestAcquireContext_KeepsTheContract(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	background := context.WithValue(context.Background(), valueKey{}, "value")
	type maker func() (context.Context, context.CancelFunc)
	plain := func() (context.Context, context.CancelFunc) { return background, func() {} }
	cancellable := func() (context.Context, context.CancelFunc) { return context.WithCancel(background) }
	within := func(d time.Duration) maker {
		return func() (context.Context, context.CancelFunc) { return context.WithTimeout(background, d) }
	}
	for name, test := range map[string]struct {
		timeout time.Duration
		caller  maker
		cancel  bool // whether the test cancels the caller's context
		want    error
		latest  time.Duration // until the deadline
	}{
		"timeout, caller without cancellation": {timeout, plain, false, pgfx.ErrAcquireTimeout, timeout},
		"timeout, caller with cancellation":    {timeout, cancellable, false, pgfx.ErrAcquireTimeout, timeout},
		"timeout before the caller's deadline": {timeout, within(time.Hour), false, pgfx.ErrAcquireTimeout, timeout},
		"caller's deadline before the timeout": {time.Hour, within(timeout), false, pgfx.ErrAcquireTimeout, timeout},
		"caller's deadline without timeout":    {pgfx.Off, within(timeout), false, pgfx.ErrAcquireTimeout, timeout},
		"cancelled, without deadline":          {time.Hour, cancellable, true, context.Canceled, time.Hour},
		"cancelled before the deadline":        {2 * time.Hour, within(time.Hour), true, context.Canceled, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := serverConfig()
			cfg.Pool.AcquireTimeout = test.timeout
			db := open(t, cfg)
			began := time.Now()
			caller, cancel := test.caller()
			defer cancel()
			ctx, end := db.AcquireContext(caller)
			defer end()

			done := ctx.Done()
			require.NotNil(t, done)
			assert.Equal(t, done, ctx.Done(), "Done returns the same channel")
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			assert.WithinRange(t, deadline, began.Add(test.latest), time.Now().Add(test.latest+test.latest/32))
			assert.Equal(t, "value", ctx.Value(valueKey{}))
			select {
			case <-done:
			default:
				if time.Since(began) < timeout {
					require.NoError(t, ctx.Err(), "Err returns nil while Done is open")
				}
			}

			if test.cancel {
				cancel()
			}
			<-done
			err := ctx.Err()
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.want == pgfx.ErrAcquireTimeout, errors.Is(err, context.DeadlineExceeded)) //nolint:errorlint // the table's
			if test.want == pgfx.ErrAcquireTimeout {                                                       //nolint:errorlint // the table's
				assert.GreaterOrEqual(t, time.Since(began), timeout)
			}
			end()
			assert.Same(t, err, ctx.Err(), "Err keeps its value")
			assert.Equal(t, done, ctx.Done())
			assert.Equal(t, "value", ctx.Value(valueKey{}))
		})
	}
}

func TestAcquireContext_WithoutAnyLimit(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.AcquireTimeout = pgfx.Off
	db := open(t, cfg)
	ctx, end := db.AcquireContext(context.Background())
	defer end()
	assert.Nil(t, ctx.Done())
	require.NoError(t, ctx.Err())
	_, ok := ctx.Deadline()
	assert.False(t, ok)
}

func TestAcquireContext_IsNotShared(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	first, end := db.AcquireContext(context.WithValue(t.Context(), valueKey{}, 1))
	end()
	second, end := db.AcquireContext(context.WithValue(t.Context(), valueKey{}, 2))
	defer end()
	assert.Equal(t, 1, first.Value(valueKey{}), "the pool may keep a context after its acquire")
	require.ErrorIs(t, first.Err(), context.Canceled)
	assert.Equal(t, 2, second.Value(valueKey{}))
	require.NoError(t, second.Err())
}

func TestRefusedContext_HasEnded(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	caller, cancel := context.WithTimeout(context.WithValue(t.Context(), valueKey{}, "value"), time.Hour)
	defer cancel()
	ctx := pgfx.RefusedContext(caller, refused)
	<-ctx.Done()
	done := ctx.Done()
	assert.Equal(t, done, ctx.Done())
	assert.Same(t, refused, ctx.Err())
	assert.Equal(t, "value", ctx.Value(valueKey{}))
	want, _ := caller.Deadline()
	deadline, ok := ctx.Deadline()
	assert.True(t, ok)
	assert.Equal(t, want, deadline)
}
