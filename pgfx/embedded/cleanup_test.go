//go:build linux

package embedded_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestStop_LeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	info := infoOf(server)
	require.True(t, isRunning(info.PID))
	require.True(t, isRunning(info.Keeper))
	require.NotEmpty(t, postgres.Processes(info.DataDir))
	require.DirExists(t, info.Dir)

	require.NoError(t, stop(server))

	assert.False(t, isRunning(info.PID))
	assert.False(t, isRunning(info.Keeper))
	assert.Empty(t, postgres.Processes(info.DataDir))
	assert.True(t, isEmpty(dir))
	assert.Zero(t, server.PID())
}

func TestCleanup_AfterAPanic(t *testing.T) {
	t.Parallel()
	p := run(t, "panic", newTempDir(t))
	require.True(t, isRunning(p.server.PID))
	require.NoError(t, p.in.Close())
	require.ErrorContains(t, p.cmd.Wait(), "exit status 2")
	assertGone(t, p.server)
}

func TestCleanup_AfterExitWithoutStop(t *testing.T) {
	t.Parallel()
	p := run(t, "exit", newTempDir(t))
	require.NoError(t, p.in.Close())
	require.ErrorContains(t, p.cmd.Wait(), "exit status 3")
	assertGone(t, p.server)
}

func TestCleanup_AfterASignal(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]syscall.Signal{
		"interrupt": syscall.SIGINT, "terminate": syscall.SIGTERM, "hangup": syscall.SIGHUP, "quit": syscall.SIGQUIT, "kill": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(number) {
				t.Skip("this process, and so its children, ignore the signal")
			}
			p := run(t, "wait", newTempDir(t))
			// To the whole process group, as a terminal sends Ctrl-C.
			require.NoError(t, syscall.Kill(-p.cmd.Process.Pid, number))
			require.Error(t, p.cmd.Wait())
			assertGone(t, p.server)
		})
	}
}

func TestCleanup_SignalAllowsAnOrderlyShutdown(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "terminate": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, "app", newTempDir(t))
			require.NoError(t, syscall.Kill(-p.cmd.Process.Pid, number))
			rest, err := io.ReadAll(p.out)
			require.NoError(t, err)
			require.NoError(t, p.cmd.Wait())
			assert.Equal(t, "connected\n", string(rest))
			// The program has waited for the cleanup.
			assert.False(t, isRunning(p.server.PID))
			assert.False(t, isRunning(p.server.Keeper))
			assert.NoDirExists(t, p.server.Dir)
		})
	}
}

func TestCleanup_AfterKillDuringStart(t *testing.T) {
	t.Parallel()
	for _, delay := range []int{0, 5, 10, 20, 30, 40, 60, 80, 120} {
		dir := newTempDir(t)
		p := run(t, "start", dir)
		time.Sleep(time.Duration(delay) * time.Millisecond) // varies the moment of the kill
		p.kill(t)
		eventually(t, "the directory is removed", func() bool { return isEmpty(dir) })
	}
}

func TestRemoveWhenOrphaned_RemovesOnlyAfterAKill(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	p := run(t, "persistent", dir)
	p.kill(t)
	assertGone(t, p.server)
	eventually(t, "the data is removed", func() bool { return isEmpty(dir) })

	p = run(t, "persistent", dir)
	require.NoError(t, p.in.Close())
	require.NoError(t, p.cmd.Wait())
	assert.DirExists(t, filepath.Join(dir, "data"), "a stopped server keeps its data")
	assert.FileExists(t, filepath.Join(dir, "file"))
}

func TestCleanup_AfterAKilledKeeper(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	info := infoOf(server)
	kill(t, info.Keeper, syscall.SIGKILL)
	assertGone(t, info)
	eventually(t, "the keeper's end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, isEmpty(dir))
	require.NoError(t, stop(server), "there is nothing left to stop")
}

func TestCleanup_NextStartSweeps(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	p := run(t, "wait", dir)
	info := p.server
	// Program and keeper are killed at once, for example by the out-of-memory killer.
	require.NoError(t, syscall.Kill(p.cmd.Process.Pid, syscall.SIGSTOP))
	kill(t, info.Keeper, syscall.SIGKILL)
	p.kill(t)
	eventually(t, "the server ends", func() bool { return !isRunning(info.PID) })
	eventually(t, "the server's other processes end", func() bool { return len(postgres.Processes(info.DataDir)) == 0 })
	require.DirExists(t, info.Dir, "no process was left to remove it")

	next := start(t, embedded.TempDir(dir))
	eventually(t, "the stale directory is removed", func() bool {
		_, err := os.Stat(info.Dir)
		return os.IsNotExist(err)
	})
	assert.DirExists(t, next.Dir())
	assert.Equal(t, 1, query[int](t, next.URL(), "SELECT 1"))
}

func TestServer_RestartsAfterAKilledKeeper(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TempDir(newTempDir(t)))
	kill(t, server.KeeperPID(), syscall.SIGKILL)
	eventually(t, "the keeper's end is noticed", func() bool { return server.PID() == 0 })
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestKeeper_StopsTheServerOnSIGTERM(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TempDir(newTempDir(t)))
	info := infoOf(server)
	kill(t, info.Keeper, syscall.SIGTERM)
	eventually(t, "the keeper's end is noticed", func() bool { return server.PID() == 0 })
	assertGone(t, info)
}

func TestCleanup_IgnoresOtherChildrenOfTheProgram(t *testing.T) {
	t.Parallel()
	p := run(t, "parent", newTempDir(t))
	var child int
	_, err := fmt.Fscan(p.out, &child)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	p.kill(t)
	assertGone(t, p.server)
	assert.True(t, isRunning(child), "the child outlives its parent")
}

func TestKeeper_InheritsNothing(t *testing.T) {
	t.Parallel()
	// A descriptor that the program has inherited, for example from a shell, and doesn't know.
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = read.Close(), write.Close() }()
	inherited, err := os.Readlink(procPath(os.Getpid(), "fd", strconv.Itoa(int(write.Fd()))))
	require.NoError(t, err)
	p := runWith(t, settings{files: []*os.File{write, write, write, write}}, "wait", newTempDir(t))
	require.Contains(t, openFiles(t, p.cmd.Process.Pid), inherited)

	keeper := p.server.Keeper
	assert.NotContains(t, openFiles(t, keeper), inherited)
	assert.NotContains(t, openFiles(t, p.server.PID), inherited)
	for _, name := range []string{"0", "1", "2"} {
		target, err := os.Readlink(procPath(keeper, "fd", name))
		require.NoError(t, err)
		assert.Equal(t, os.DevNull, target)
	}
	cwd, err := os.Readlink(procPath(keeper, "cwd"))
	require.NoError(t, err)
	assert.Equal(t, "/", cwd)
	session, err := unix.Getsid(keeper)
	require.NoError(t, err)
	assert.Equal(t, keeper, session)
}

// openFiles returns the targets of a process's file descriptors.
func openFiles(t *testing.T, pid int) []string {
	t.Helper()
	entries, err := os.ReadDir(procPath(pid, "fd"))
	require.NoError(t, err)
	var targets []string
	for _, entry := range entries {
		if target, err := os.Readlink(procPath(pid, "fd", entry.Name())); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

func TestStop_KillsAnUnresponsiveServer(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	info := infoOf(server)
	kill(t, info.PID, syscall.SIGSTOP)
	err := server.Stop(testctx.Unending(t.Context(), 2*time.Second))
	require.ErrorContains(t, err, "embedded: stop: the server didn't stop within")
	require.ErrorContains(t, err, "and was killed")
	assert.Empty(t, postgres.Processes(info.DataDir), "its child processes are killed too")
	assert.True(t, isEmpty(dir))
}

func TestStop_StopsASlowServerWithoutACheckpoint(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, _ := newServer(t, embedded.TempDir(dir))
	require.NoError(t, server.Start(t.Context()))
	// A fast shutdown waits until every standby has confirmed what it was sent, which this one never does.
	lsn := query[string](t, server.URL(), "SELECT pg_current_wal_flush_lsn()::text")
	standby, err := pgconn.Connect(t.Context(), server.URL()+"&replication=true")
	require.NoError(t, err)
	defer func() { _ = standby.Close(context.WithoutCancel(t.Context())) }()
	standby.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + lsn})
	require.NoError(t, standby.Frontend().Flush())
	message, err := standby.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.IsType(t, &pgproto3.CopyBothResponse{}, message)
	eventually(t, "the standby is streaming", func() bool {
		return query[int](t, server.URL(), "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1
	})

	err = server.Stop(testctx.Unending(t.Context(), 8*time.Second))
	require.ErrorContains(t, err, "embedded: stop: the server didn't stop within")
	require.ErrorContains(t, err, "was stopped without a checkpoint")
	assert.True(t, isEmpty(dir))
}

func TestServer_IgnoresTheProgramsEnvironment(t *testing.T) {
	t.Parallel()
	p := run(t, "wait-tcp", newTempDir(t), "PGDATA=/nowhere", "PGPORT=1", "PGHOST=nowhere", "PGOPTIONS=-c nonsense=1",
		"PGSSLMODE=verify-full", "PGUSER=nobody", "PGDATABASE=none", "PGSERVICE=none", "PGPASSFILE=/nowhere",
		"PGTARGETSESSIONATTRS=read-only", "APP_SECRET=hunter2")
	assert.Equal(t, "on", query[string](t, p.server.URL, "SHOW synchronous_commit"))
	text, err := os.ReadFile(procPath(p.server.PID, "environ"))
	require.NoError(t, err)
	for _, name := range []string{"PGDATA=", "PGPORT=", "PGOPTIONS=", "APP_SECRET=", "RDSFX_"} {
		assert.NotContains(t, string(text), name)
	}
	assert.Contains(t, string(text), "TZ=UTC")
}
