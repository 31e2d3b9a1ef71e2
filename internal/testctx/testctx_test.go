package testctx_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
)

func TestExpiring_EndsOnExpire(t *testing.T) {
	t.Parallel()
	ctx, expire := testctx.Expiring(t.Context())
	child, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	require.NoError(t, ctx.Err())
	_, has := ctx.Deadline()
	assert.False(t, has)
	expire()
	expire()
	<-ctx.Done()
	<-child.Done()
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	require.ErrorIs(t, child.Err(), context.DeadlineExceeded)
	assert.Equal(t, context.DeadlineExceeded, context.Cause(child))
}

func TestUnending_OutlivesItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := testctx.Unending(t.Context(), time.Second)
		deadline, has := ctx.Deadline()
		assert.True(t, has)
		assert.Equal(t, time.Now().Add(time.Second), deadline)
		earlier, cancel := context.WithDeadline(ctx, deadline.Add(-time.Millisecond))
		defer cancel()
		time.Sleep(time.Hour)
		require.NoError(t, ctx.Err())
		require.ErrorIs(t, earlier.Err(), context.DeadlineExceeded)
	})
}
