package deadline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/deadline"
)

func TestWithMargin_ReservesTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ given, want time.Duration }{
		"10 % of a long time":     {time.Minute, 54 * time.Second},
		"500 ms of a medium time": {2 * time.Second, 1500 * time.Millisecond},
		"half of a short time":    {600 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				outer, cancelOuter := context.WithTimeout(t.Context(), test.given)
				defer cancelOuter()
				ctx, cancel := deadline.WithMargin(outer)
				defer cancel()
				end, ok := ctx.Deadline()
				require.True(t, ok)
				assert.Equal(t, test.want, time.Until(end))
			})
		})
	}
}

func TestWithMargin_WithoutDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := deadline.WithMargin(t.Context())
	_, ok := ctx.Deadline()
	assert.False(t, ok)
	cancel()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}
