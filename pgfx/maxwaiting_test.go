package pgfx_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMaxWaiting_ShedsFurtherCallers(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 1, MaxOverflow: 1, MaxWaiting: 2}
	db := started(t, cfg)
	exec := func() error {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		return err
	}
	for range 2 { // the limit holds again after each overload
		first, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		second, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		waited := make(chan error, 2)
		for range cap(waited) {
			go func() { waited <- exec() }()
		}
		require.Eventually(t, func() bool { return db.Stats().Pool.Waiting == 2 }, eventually, tick)

		for range 3 {
			err = exec()
			require.ErrorIs(t, err, pgfx.ErrOverload)
			overload := &pgfx.OverloadError{}
			require.ErrorAs(t, err, &overload)
			assert.Equal(t, pgfx.OverloadError{Waiting: 2, InUse: 2, Max: 2}, *overload)
			assert.False(t, pgfx.CanRetry(err, pgfx.Idempotent), "a retry would add to the load")
		}
		assert.Equal(t, 2, db.Stats().Pool.Waiting)

		first.Release()
		second.Release()
		for range cap(waited) {
			require.NoError(t, <-waited, "callers that wait already are served")
		}
		require.NoError(t, exec())
	}
	assert.EqualValues(t, 6, db.Stats().Pool.Refused)
}

func TestMaxWaiting_ForgetsCallersThatGiveUp(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 1, MaxWaiting: 1, AcquireTimeout: tick}
	db := started(t, cfg)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	for range 3 {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	}
}
