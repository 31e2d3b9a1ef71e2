package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestGate_HoldsCallers(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	db := started(t, serverConfig())
	gate := db.Internals().Gate()
	query := func(ctx context.Context) error {
		_, err := db.Pool().Exec(ctx, "select 1")
		return err
	}
	inBackground := func() <-chan error {
		result := make(chan error, 1)
		ctx := t.Context()
		go func() { result <- query(ctx) }()
		return result
	}
	waits := func(t *testing.T, result <-chan error) {
		t.Helper()
		select {
		case err := <-result:
			require.Fail(t, "the caller did not wait", "%v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}

	t.Run("until it is opened", func(t *testing.T) {
		gate.Close(assert.AnError)
		gate.Hold(time.Minute)
		result := inBackground()
		waits(t, result)
		gate.Open()
		require.NoError(t, <-result)
	})
	t.Run("until it is closed", func(t *testing.T) {
		gate.Hold(time.Minute)
		result := inBackground()
		waits(t, result)
		gate.Close(assert.AnError)
		require.ErrorIs(t, <-result, assert.AnError)
		gate.Open()
	})
	t.Run("until their ctx ends", func(t *testing.T) {
		gate.Hold(time.Minute)
		ctx, expire := testctx.Expiring(t.Context())
		expire()
		err := query(ctx)
		require.ErrorIs(t, err, pgfx.ErrSwitching)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		gate.Open()
	})
	t.Run("until the limit", func(t *testing.T) {
		gate.Hold(time.Millisecond)
		err := query(t.Context())
		require.ErrorIs(t, err, pgfx.ErrSwitching)
		assert.True(t, pgfx.IsUnavailable(err))
		gate.Open()
		require.NoError(t, query(t.Context()))
	})
}
