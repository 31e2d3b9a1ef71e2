package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestOutage_ErrorsMatchDeadlineAndCause(t *testing.T) {
	t.Parallel()
	silent, away := silentPort(t), ""
	redirect := func(_ context.Context, cc *pgx.ConnConfig) error {
		if away != "" {
			to, err := pgx.ParseConfig("postgres://" + away + "/?sslmode=disable")
			cc.Host, cc.Port, cc.Fallbacks, cc.TLSConfig = to.Host, to.Port, nil, nil
			return err
		}
		return nil
	}
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg, pgfx.WithBeforeConnect(redirect))
	internals := db.Internals()

	t.Log("the caller waits for a connection while connecting fails")
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = db.Pool().Exec(within(t, 10*time.Millisecond), "select 1")
	var timeout *pgfx.AcquireTimeoutError
	require.ErrorAs(t, err, &timeout)
	require.NoError(t, timeout.Cause, "the pool is exhausted, and connecting works")
	require.ErrorContains(t, err, "raise Pool.MaxConns")
	away = closedPort
	_, err = db.Connect(t.Context(), "test")
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	_, err = db.Pool().Exec(within(t, 10*time.Millisecond), "select 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	require.ErrorAs(t, err, &connect)
	assert.Equal(t, pgfx.CauseRefused, connect.Cause)
	assert.NotContains(t, err.Error(), "raise Pool.MaxConns")
	assert.False(t, pgfx.CanRetry(err, pgfx.Idempotent), "the caller has waited already")

	t.Log("the gate closes while the caller waits")
	ctx, expire := testctx.Expiring(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(ctx, "select 1")
		waited <- err
	}()
	require.Eventually(t, func() bool { return db.Stats().Pool.Waiting == 1 }, eventually, tick)
	internals.Gate().Close(connect)
	expire()
	err = <-waited
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var unavailable *pgfx.UnavailableError
	require.ErrorAs(t, err, &unavailable)
	assert.Equal(t, pgfx.CauseRefused, pgfx.CauseOf(unavailable.Cause))

	t.Log("the gate is closed, and the deadline of the caller has passed")
	_, err = db.Pool().Exec(ctx, "select 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorAs(t, err, &unavailable)
	internals.Gate().Open()
	held.Release()

	t.Log("the deadline of the caller ends a dial")
	away = silent
	_, err = db.Connect(within(t, 10*time.Millisecond), "test")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorAs(t, err, &connect)
	assert.Equal(t, pgfx.CauseTimeout, connect.Cause)

	away = ""
	conn, err := db.Connect(t.Context(), "test")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	held, err = db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = db.Pool().Exec(within(t, 10*time.Millisecond), "select 1")
	require.ErrorAs(t, err, &timeout)
	require.NoError(t, timeout.Cause, "connecting works again")
	held.Release()
}
