package testpgbouncer_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/testpgbouncer"
)

func TestStart_PoolsSessions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address := fxtest.URL(t)
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	bouncer, err := testpgbouncer.Start(ctx, address, "transaction", 1)
	if err == testpgbouncer.ErrNotInstalled { //nolint:errorlint // returned as it is
		t.Skip(err)
	}
	require.NoError(t, err)
	var pids [2]int
	for i := range pids {
		conn, err := pgx.Connect(ctx, bouncer.URL(config.Database))
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(ctx, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pids[i]))
		t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(ctx))) })
	}
	assert.Equal(t, pids[0], pids[1], "two connections share the only session")
	require.NoError(t, bouncer.Stop())
	assert.NotEmpty(t, bouncer.Output())
}

func TestStart_ReportsMistakes(t *testing.T) {
	_, err := testpgbouncer.Start(t.Context(), "postgres://%", "transaction", 1)
	require.ErrorContains(t, err, "the server's address")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(assert.AnError)
	_, err = testpgbouncer.Start(ctx, "postgres://postgres@localhost:1/postgres", "transaction", 1)
	require.ErrorIs(t, err, assert.AnError)

	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	_, err = testpgbouncer.Start(t.Context(), "postgres://postgres@localhost:1/postgres", "transaction", 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestBouncer_StopsOnce(t *testing.T) {
	t.Parallel()
	bouncer, err := testpgbouncer.Start(t.Context(), fxtest.URL(t), "transaction", 1)
	if err == testpgbouncer.ErrNotInstalled { //nolint:errorlint // returned as it is
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, bouncer.Stop())
	require.ErrorIs(t, bouncer.Stop(), os.ErrProcessDone)
}
