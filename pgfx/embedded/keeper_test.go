package embedded_test

import (
	"bytes"
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

// inside makes a server whose keeper runs in this process.
func inside(t *testing.T, opts ...embedded.Option) (*embedded.Server, chan<- os.Signal) {
	t.Helper()
	result, err := embedded.New(embedded.Params{Options: opts})
	require.NoError(t, err)
	terminate := embedded.InProcess(result.Server)
	t.Cleanup(func() { require.NoError(t, stop(result.Server)) })
	return result.Server, terminate
}

func TestAKeeperRunsAServerUntilItIsTold(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, _ := inside(t, embedded.TempDir(dir), embedded.TCP())
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	require.NoError(t, stop(server))
	assert.True(t, empty(dir))
}

func TestAKeeperEndsWithTheOneItWorksFor(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, _ := inside(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	embedded.Orphan(server)
	eventually(t, "everything goes", func() bool { return empty(dir) })
}

func TestAKeeperThatIsTerminatedSaysSo(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, terminate := inside(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	terminate <- os.Interrupt
	eventually(t, "the end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, empty(dir))
}

func TestAKeeperReportsAServerThatEndsByItself(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, _ := inside(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	process, err := os.FindProcess(server.PID())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	eventually(t, "the end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, empty(dir))
	assert.Contains(t, embedded.Reason(server), "the server ended by itself: signal: killed:\n  ")
}

func TestAKeeperMakesAndKeepsAPersistentCluster(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(playground(t), "data"), playground(t)
	for range 2 {
		server, _ := inside(t, embedded.Persistent(dir), embedded.TempDir(temp))
		require.NoError(t, server.Start(t.Context()))
		assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
		require.NoError(t, stop(server))
		assert.True(t, empty(temp))
	}
}

func TestAKeeperRefusesWhatIsNoCluster(t *testing.T) {
	t.Parallel()
	dir, temp := playground(t), playground(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	server, _ := inside(t, embedded.Persistent(dir), embedded.TempDir(temp))
	require.ErrorContains(t, server.Start(t.Context()), "is neither empty nor a PostgreSQL cluster")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9\n"), 0o600))
	require.ErrorContains(t, server.Start(t.Context()), "was made by PostgreSQL 9")
	assert.True(t, empty(temp))
}

func TestAKeeperReportsSettingsThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, _ := inside(t, embedded.TempDir(dir), embedded.Setting("work_mem", "much"))
	require.ErrorContains(t, server.Start(t.Context()), `invalid value for parameter "work_mem": "much"`)
	assert.True(t, empty(dir))
}

func TestAKeeperGivesUpAServerThatNeverGetsReady(t *testing.T) {
	t.Parallel()
	dir, data := playground(t), playground(t)
	server, _ := inside(t, embedded.TempDir(dir), embedded.Persistent(data), embedded.Setting("hot_standby", "off"))
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, stop(server))
	// A standby that nobody may read isn't ready for anything.
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600))
	ctx, expire := testctx.Expiring(t.Context())
	outcome := make(chan error, 1)
	go func() { outcome <- server.Start(ctx) }()
	eventually(t, "the server is a standby", func() bool {
		text, err := os.ReadFile(server.LogFile())
		return err == nil && strings.Contains(string(text), "entering standby mode")
	})
	expire()
	err := <-outcome
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the server isn't ready")
	require.ErrorContains(t, err, "entering standby mode", "the server's log tells why")
	assert.True(t, empty(dir))
}

func TestAStandbyKeepsThePasswordsOfItsPrimary(t *testing.T) {
	t.Parallel()
	dir, data := playground(t), playground(t)
	server, _ := inside(t, embedded.TempDir(dir), embedded.Persistent(data))
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, stop(server))
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600))
	standby, _ := inside(t, embedded.TempDir(dir), embedded.Persistent(data), embedded.TCP())
	require.NoError(t, standby.Start(t.Context()), "its own password can't be set, which doesn't keep it from starting")
}

func TestAServerThatIsReadOnlyByItsSettingsGetsItsPassword(t *testing.T) {
	t.Parallel()
	server, _ := inside(t, embedded.TCP(), embedded.Setting("default_transaction_read_only", "on"))
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, "on", query[string](t, server.URL(), "SHOW transaction_read_only"))
}

func TestAKeeperOfASharedServerEndsWithTheLastShare(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, err := embedded.ShareInProcess(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	require.NoError(t, stop(server))
	eventually(t, "everything goes", func() bool { return empty(dir) })
}

func TestAKeeperWithoutAnOrderSaysSo(t *testing.T) {
	t.Parallel()
	for _, orders := range []string{"", "{}", "nonsense"} {
		var events bytes.Buffer
		assert.Equal(t, 1, embedded.Keep(strings.NewReader(orders), &events, nil))
		assert.Contains(t, events.String(), `{"kind":"hello"}`)
		assert.Contains(t, events.String(), `"error":"the keeper got no order`)
	}
}

func TestAKeeperThatPanicsSaysSo(t *testing.T) {
	t.Parallel()
	assert.Contains(t, embedded.GuardPanic(), "the keeper panicked: on purpose")
}

func TestAProgramThatIsNoKeeperIsNoticed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	script := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "program")
		writeProgram(t, path, strings.NewReader("#!/bin/sh\n"+text+"\n"))
		return path
	}
	for name, c := range map[string]struct {
		program string
		limit   time.Duration
		want    string
	}{
		"it ends": {
			script(t, "echo 'panic: no configuration' >&2; exit 2"), time.Minute,
			"ended before it began: exit status 2:\n  panic: no configuration; the program must be an ordinary Go executable",
		},
		"it isn't there":    {filepath.Join(t.TempDir(), "gone"), time.Minute, "start the keeper, a second process of "},
		"it does otherwise": {script(t, "exec sleep 300"), 500 * time.Millisecond, "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := embedded.New(embedded.Params{Options: []embedded.Option{embedded.TempDir(playground(t))}})
			require.NoError(t, err)
			embedded.SpawnProgram(result.Server, c.program)
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			err = result.Server.Start(ctx)
			require.ErrorContains(t, err, "embedded: start")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestAKeeperWhosePlaceIsGoneSaysSo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(playground(t), "gone")
	require.NoError(t, os.Mkdir(dir, 0o755))
	server, _ := inside(t, embedded.TempDir(dir))
	require.NoError(t, os.Remove(dir))
	require.ErrorContains(t, server.Start(t.Context()), "embedded: start: make the server's directory: mkdir "+server.Dir())
}

func TestAStopDuringAStartIsBoundedToo(t *testing.T) {
	t.Parallel()
	data := playground(t)
	server, _ := inside(t, embedded.Persistent(data), embedded.Setting("hot_standby", "off"))
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, stop(server))
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600))
	starting, giveUp := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- server.Start(starting) }()
	eventually(t, "the server starts", func() bool { _, err := os.Stat(filepath.Join(data, "postmaster.pid")); return err == nil })
	require.ErrorIs(t, stopWithin(t, server, 10*time.Millisecond), context.DeadlineExceeded)
	giveUp()
	require.ErrorIs(t, <-started, context.Canceled)
	assert.NoDirExists(t, server.Dir())
}

func TestTheKeeperGetsTheProgramsEnvironmentWithoutWhatPostgresReads(t *testing.T) {
	t.Parallel()
	got := embedded.KeeperEnviron([]string{"A=1", "PGHOST=x", "PGSERVICE=y", "GORACE=halt_on_error=1"})
	assert.ElementsMatch(t, []string{"A=1", "GORACE=halt_on_error=1 atexit_sleep_ms=0", "RDSFX_EMBEDDED_KEEPER=1"}, got)
	assert.Contains(t, embedded.KeeperEnviron(nil), "GORACE=atexit_sleep_ms=0")
}
