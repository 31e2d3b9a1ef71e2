package faults_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestServer_KillKeepsRowsAndURL(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	server := faults.NewServer(t)
	url := server.URL()
	conn := connect(t, url)
	execute(t, conn, "create table entries (n int)")
	const rows = 50
	for range rows {
		execute(t, conn, "insert into entries values (1)")
	}
	server.Kill()
	require.Error(t, ping(t, conn, timeout))
	_, err := tryConnect(t, url)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	server.Kill() // already down
	server.Freeze()
	server.Thaw()

	server.Restart()
	assert.Equal(t, url, server.URL())
	conn = connect(t, url)
	assert.Equal(t, rows, countEntries(t, conn))

	t.Run("password and read-only mode survive a restart", func(t *testing.T) {
		server.RotatePassword()
		server.ReadOnly(true)
		server.Restart()
		conn := connect(t, server.URL())
		_, err := conn.Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err))
		_, err = tryConnect(t, url)
		assert.Equal(t, "28P01", code(err), "the initial password stays invalid")
	})
	t.Run("stop refuses connections", func(t *testing.T) {
		conn := connect(t, server.URL())
		server.Stop()
		assert.Equal(t, "57P01", code(ping(t, conn, timeout)))
		_, err := tryConnect(t, server.URL())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

func TestServer_FreezeAcceptsWithoutReply(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	delayed, timedOut := connect(t, server.URL()), connect(t, server.URL())
	server.Freeze()
	server.Freeze() // already frozen
	require.ErrorIs(t, ping(t, timedOut, quiet), context.DeadlineExceeded)
	ctx, cancel := context.WithTimeout(t.Context(), quiet)
	defer cancel()
	_, err := pgx.Connect(ctx, server.URL())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)

	reply := make(chan error, 1)
	go func() { reply <- ping(t, delayed, timeout) }()
	server.Thaw()
	require.NoError(t, <-reply)
	execute(t, connect(t, server.URL()), "select 1")

	server.Freeze()
	server.Kill()
	server.Restart()
	execute(t, connect(t, server.URL()), "select 1")
	server.Freeze() // the cleanup must handle a frozen server
}

func TestNewServer_ReportsStartError(t *testing.T) {
	t.Parallel()
	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewServer(tb, embedded.Setting("no_such_setting", "1")) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "faults: start a server: ")
	assert.Contains(t, messages[0], "no_such_setting")
}
