package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// newServer returns a server whose keeper runs in this process until a signal is sent to terminate.
func newServer(t *testing.T, opts ...embedded.Option) (server *embedded.Server, terminate chan<- os.Signal) {
	t.Helper()
	server, err := embedded.NewServer(opts...)
	require.NoError(t, err)
	terminate = server.UseGoroutine()
	t.Cleanup(func() { require.NoError(t, stop(server)) })
	return server, terminate
}

func TestKeeper_RunsUntilStopped(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir), embedded.TCP())
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	require.NoError(t, stop(server))
	assert.True(t, isEmpty(dir))
}

func TestKeeper_StopsWhenOrphaned(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	server.AbandonKeeper()
	eventually(t, "the directory is removed", func() bool { return isEmpty(dir) })
}

func TestKeeper_StopsOnASignal(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, terminate := newServer(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	terminate <- os.Interrupt
	eventually(t, "the server's end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, isEmpty(dir))
}

func TestKeeper_ReportsAnUnexpectedEnd(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	process, err := os.FindProcess(server.PID())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	eventually(t, "the server's end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, isEmpty(dir))
	assert.Contains(t, server.KeeperReason(), "the server ended unexpectedly: signal: killed:\n  ")
}

func TestKeeper_CreatesAndKeepsPersistentData(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(newTempDir(t), "data"), newTempDir(t)
	for range 2 {
		server, _ := newServer(t, embedded.Persistent(dir), embedded.TempDir(temp))
		require.NoError(t, server.Start(t.Context()))
		assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
		require.NoError(t, stop(server))
		assert.True(t, isEmpty(temp))
	}
}

func TestKeeper_ReportsRejectedSettings(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir), embedded.Setting("work_mem", "much"))
	require.ErrorContains(t, server.Start(t.Context()), `invalid value for parameter "work_mem": "much"`)
	assert.True(t, isEmpty(dir))
}

// newUnreadyServer returns a server that never becomes ready: a standby without hot_standby.
func newUnreadyServer(t *testing.T, opts ...embedded.Option) *embedded.Server {
	t.Helper()
	dataDir := newTempDir(t)
	server, _ := newServer(t, append(opts, embedded.Persistent(dataDir), embedded.Setting("hot_standby", "off"))...)
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, stop(server))
	require.NoError(t, os.WriteFile(filepath.Join(dataDir, "standby.signal"), nil, 0o600))
	return server
}

func TestKeeper_GivesUpAServerThatIsNeverReady(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server := newUnreadyServer(t, embedded.TempDir(dir))
	ctx, expire := testctx.Expiring(t.Context())
	result := make(chan error, 1)
	go func() { result <- server.Start(ctx) }()
	eventually(t, "the server is a standby", func() bool {
		text, err := os.ReadFile(server.LogFile())
		return err == nil && strings.Contains(string(text), "entering standby mode")
	})
	expire()
	err := <-result
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the server is not ready")
	require.ErrorContains(t, err, "entering standby mode", "the error quotes the server's log")
	assert.True(t, isEmpty(dir))
}

func TestStop_DuringAStartEndsWithContext(t *testing.T) {
	t.Parallel()
	server := newUnreadyServer(t)
	startCtx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- server.Start(startCtx) }()
	eventually(t, "the server starts", func() bool {
		_, err := os.Stat(filepath.Join(server.DataDir(), "postmaster.pid"))
		return err == nil
	})
	require.ErrorIs(t, stopWithin(t, server, 10*time.Millisecond), context.DeadlineExceeded)
	cancel()
	require.ErrorIs(t, <-started, context.Canceled)
	assert.NoDirExists(t, server.Dir())
}

func TestTCP_StandbyKeepsThePasswordsOfItsPrimary(t *testing.T) {
	t.Parallel()
	dir, dataDir := newTempDir(t), newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir), embedded.Persistent(dataDir))
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, stop(server))
	require.NoError(t, os.WriteFile(filepath.Join(dataDir, "standby.signal"), nil, 0o600))
	standby, _ := newServer(t, embedded.TempDir(dir), embedded.Persistent(dataDir), embedded.TCP())
	require.NoError(t, standby.Start(t.Context()), "a password that can't be set doesn't prevent the start")
}

func TestTCP_ReadOnlyServerGetsItsPassword(t *testing.T) {
	t.Parallel()
	server, _ := newServer(t, embedded.TCP(), embedded.Setting("default_transaction_read_only", "on"))
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, "on", query[string](t, server.URL(), "SHOW transaction_read_only"))
}

func TestKeeper_OfASharedServerEndsWithTheLastLease(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.SharedInGoroutine(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	require.NoError(t, stop(server))
	eventually(t, "the directory is removed", func() bool { return isEmpty(dir) })
}

func TestStart_ReportsAnExecutableThatIsNoKeeper(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	script := func(t *testing.T, commands string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "program")
		writeExecutable(t, path, strings.NewReader("#!/bin/sh\n"+commands+"\n"))
		return path
	}
	for name, c := range map[string]struct {
		program string
		timeout time.Duration
		want    string
	}{
		"exits": {
			script(t, "echo 'panic: no configuration' >&2; exit 2"), time.Minute,
			"ended before it could start a server: exit status 2:\n  panic: no configuration; the program must be an ordinary Go executable",
		},
		"doesn't exist": {filepath.Join(t.TempDir(), "gone"), time.Minute, "start the keeper, a second process of "},
		"hangs":         {script(t, "exec sleep 300"), 500 * time.Millisecond, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := embedded.NewServer(embedded.TempDir(newTempDir(t)))
			require.NoError(t, err)
			server.UseExecutable(c.program)
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			err = server.Start(ctx)
			require.ErrorContains(t, err, "embedded: start")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestStart_ReportsARemovedTempDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newTempDir(t), "gone")
	require.NoError(t, os.Mkdir(dir, 0o755))
	server, _ := newServer(t, embedded.TempDir(dir))
	require.NoError(t, os.Remove(dir))
	require.ErrorContains(t, server.Start(t.Context()), "embedded: start: create the server directory: mkdir "+server.Dir())
}
