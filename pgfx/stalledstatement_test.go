package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestStalledStatements_OnlyWhileNoneSucceeds(t *testing.T) {
	t.Parallel()
	config := serverConfig()
	config.Pool.MaxConns = 2
	db := started(t, config)
	assert.Empty(t, db.Internals().StalledStatements(0))
	ended := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(context.Background(), "select pg_sleep(1000)")
		ended <- err
	}()
	var stalled []pgfx.StalledStatement
	require.Eventually(t, func() bool {
		stalled = db.Internals().StalledStatements(10 * time.Millisecond)
		return len(stalled) == 1
	}, eventually, tick)
	assert.NotZero(t, stalled[0].Backend.PID)
	assert.GreaterOrEqual(t, stalled[0].For, 10*time.Millisecond)
	assert.Equal(t, stalled[0].Backend.PID, db.Leases()[0].PID)

	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, db.Internals().StalledStatements(time.Hour), "another statement has got its answer")

	assert.Equal(t, 1, db.Internals().Abandon(stalled))
	assert.Equal(t, pgfx.CauseKilled, pgfx.CauseOf(<-ended))
	assert.Zero(t, db.Internals().Abandon(stalled), "the statement is over")
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestAbandon_SparesTheNextStatementOfTheConnection(t *testing.T) {
	t.Parallel()
	config := serverConfig()
	config.Pool.MaxConns = 1
	db := started(t, config)
	ended := make(chan error, 1)
	run := func() {
		_, err := db.Pool().Exec(context.Background(), "select pg_sleep(1000)")
		ended <- err
	}
	go run()
	var stalled []pgfx.StalledStatement
	found := func() bool {
		stalled = db.Internals().StalledStatements(0)
		return len(stalled) == 1
	}
	require.Eventually(t, found, eventually, tick)
	first := stalled
	cancelled := func() {
		conn, err := db.Connect(t.Context(), "admin")
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		require.Eventually(t, func() bool { // until it has begun there is nothing to cancel
			_, err := conn.Exec(t.Context(), "select pg_cancel_backend($1)", first[0].Backend.PID)
			return err == nil && len(ended) > 0
		}, eventually, tick)
		require.Error(t, <-ended)
	}
	cancelled()
	go run()
	require.Eventually(t, found, eventually, tick)
	assert.Zero(t, db.Internals().Abandon(first))
	assert.Equal(t, 1, db.Internals().Abandon(stalled))
	assert.Equal(t, pgfx.CauseKilled, pgfx.CauseOf(<-ended))
}
