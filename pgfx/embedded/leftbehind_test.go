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
)

func TestStopLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	left := factsOf(server)
	require.True(t, running(left.PID))
	require.True(t, running(left.Keeper))
	require.NotEmpty(t, embedded.Strays(left.Data), "the server is recognised while it runs")
	require.DirExists(t, left.Dir)

	require.NoError(t, stop(server))

	assert.False(t, running(left.PID))
	assert.False(t, running(left.Keeper))
	assert.Empty(t, embedded.Strays(left.Data))
	assert.True(t, empty(dir))
	assert.Zero(t, server.PID())
}

func TestNothingIsLeftWhenTheProgramPanics(t *testing.T) {
	t.Parallel()
	program := act(t, "panic", playground(t))
	require.True(t, running(program.facts.PID))
	require.NoError(t, program.in.Close())
	require.ErrorContains(t, program.cmd.Wait(), "exit status 2")
	assertGone(t, program.facts)
}

func TestNothingIsLeftWhenTheProgramExitsWithoutStop(t *testing.T) {
	t.Parallel()
	program := act(t, "exit", playground(t))
	require.NoError(t, program.in.Close())
	require.ErrorContains(t, program.cmd.Wait(), "exit status 3")
	assertGone(t, program.facts)
}

func TestNothingIsLeftWhenASignalEndsTheProgram(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]syscall.Signal{
		"interrupt": syscall.SIGINT, "terminate": syscall.SIGTERM, "hangup": syscall.SIGHUP, "quit": syscall.SIGQUIT, "kill": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(number) {
				t.Skip("whoever runs this test has it ignore the signal, and so its children")
			}
			program := act(t, "wait", playground(t))
			// To the whole process group, as a terminal sends Ctrl-C.
			require.NoError(t, syscall.Kill(-program.cmd.Process.Pid, number))
			require.Error(t, program.cmd.Wait())
			assertGone(t, program.facts)
		})
	}
}

func TestCtrlCLeavesTheServerToTheProgramsOwnShutdown(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "terminate": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := act(t, "app", playground(t))
			require.NoError(t, syscall.Kill(-program.cmd.Process.Pid, number))
			rest, err := io.ReadAll(program.out)
			require.NoError(t, err)
			require.NoError(t, program.cmd.Wait())
			assert.Equal(t, "still there\n", string(rest))
			// The program has waited for everything to be gone.
			assert.False(t, running(program.facts.PID))
			assert.False(t, running(program.facts.Keeper))
			assert.NoDirExists(t, program.facts.Dir)
		})
	}
}

func TestNothingIsLeftWhenTheProgramIsKilledWhileStarting(t *testing.T) {
	t.Parallel()
	for _, delay := range []int{0, 5, 10, 20, 30, 40, 60, 80, 120} {
		dir := playground(t)
		program := act(t, "starter", dir)
		time.Sleep(time.Duration(delay) * time.Millisecond) // the moment is what is varied
		require.NoError(t, program.cmd.Process.Kill())
		require.Error(t, program.cmd.Wait())
		eventually(t, "the directory goes", func() bool { return empty(dir) })
	}
}

func TestWhatAnOrphanIsNotToLeaveIsRemovedWithItsOwner(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	program := act(t, "orphan", dir)
	require.NoError(t, program.cmd.Process.Kill())
	require.Error(t, program.cmd.Wait())
	assertGone(t, program.facts)
	eventually(t, "the data go, too", func() bool { return empty(dir) })

	program = act(t, "orphan", dir)
	require.NoError(t, program.in.Close())
	require.NoError(t, program.cmd.Wait())
	assert.DirExists(t, filepath.Join(dir, "data"), "who stops the server keeps what is his")
	assert.FileExists(t, filepath.Join(dir, "note"))
}

func TestAKilledKeeperTakesItsServerDownAndTheProgramClearsAway(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	left := factsOf(server)
	kill(t, left.Keeper, syscall.SIGKILL)
	assertGone(t, left)
	eventually(t, "the end is noticed", func() bool { return server.PID() == 0 })
	assert.True(t, empty(dir))
	require.NoError(t, stop(server), "there is nothing left to stop")
}

func TestWhatNobodyCouldClearAwayIsSweptByTheNextStart(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	program := act(t, "wait", dir)
	left := program.facts
	// Everybody who could clear away is killed at once, as when memory runs out.
	require.NoError(t, syscall.Kill(program.cmd.Process.Pid, syscall.SIGSTOP))
	kill(t, left.Keeper, syscall.SIGKILL)
	require.NoError(t, program.cmd.Process.Kill())
	require.Error(t, program.cmd.Wait())
	eventually(t, "the server ends", func() bool { return !running(left.PID) })
	eventually(t, "the server's processes end", func() bool { return len(embedded.Strays(left.Data)) == 0 })
	require.DirExists(t, left.Dir, "nobody was there to remove it")

	next := start(t, embedded.TempDir(dir))
	eventually(t, "the stale directory goes", func() bool {
		_, err := os.Stat(left.Dir)
		return os.IsNotExist(err)
	})
	assert.DirExists(t, next.Dir(), "a directory in use stays")
	assert.Equal(t, 1, query[int](t, next.URL(), "SELECT 1"))
}

func TestAServerCanBeStartedAgainAfterItsKeeperWasKilled(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TempDir(playground(t)))
	keeper := server.KeeperPID()
	kill(t, keeper, syscall.SIGKILL)
	eventually(t, "the keeper's end is noticed", func() bool { return server.PID() == 0 })
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestAKeeperThatIsToldToTerminateStopsItsServer(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TempDir(playground(t)))
	left := factsOf(server)
	kill(t, left.Keeper, syscall.SIGTERM)
	eventually(t, "the keeper's end is noticed", func() bool { return server.PID() == 0 })
	assertGone(t, left)
}

func TestOtherChildrenOfTheProgramDontKeepTheServerAlive(t *testing.T) {
	t.Parallel()
	program := act(t, "parent", playground(t))
	var child int
	_, err := fmt.Fscan(program.out, &child)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	require.NoError(t, program.cmd.Process.Kill())
	require.Error(t, program.cmd.Wait())
	assertGone(t, program.facts)
	assert.True(t, running(child), "the child lives on")
}

func TestTheKeeperHoldsNothingOfTheProgram(t *testing.T) {
	t.Parallel()
	// Descriptors that the program got from whoever started it, as from a shell or a job server, and doesn't know of.
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = read.Close(), write.Close() }()
	inherited, err := os.Readlink(procPath(os.Getpid(), "fd", strconv.Itoa(int(write.Fd()))))
	require.NoError(t, err)
	program := actAs(t, stage{files: []*os.File{write, write, write, write}}, "wait", playground(t))
	require.Contains(t, descriptors(t, program.cmd.Process.Pid), inherited)

	keeper := program.facts.Keeper
	assert.NotContains(t, descriptors(t, keeper), inherited)
	assert.NotContains(t, descriptors(t, program.facts.PID), inherited)
	for _, name := range []string{"0", "1", "2"} {
		target, err := os.Readlink(procPath(keeper, "fd", name))
		require.NoError(t, err)
		assert.Equal(t, os.DevNull, target)
	}
	at, err := os.Readlink(procPath(keeper, "cwd"))
	require.NoError(t, err)
	assert.Equal(t, "/", at)
	session, err := unix.Getsid(keeper)
	require.NoError(t, err)
	assert.Equal(t, keeper, session)
}

// descriptors lists what a process has open.
func descriptors(t *testing.T, pid int) []string {
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

func TestAServerThatDoesntListenIsKilledAtLast(t *testing.T) {
	t.Parallel()
	temp := playground(t)
	server, _ := inside(t, embedded.TempDir(temp))
	require.NoError(t, server.Start(t.Context()))
	left := factsOf(server)
	kill(t, left.PID, syscall.SIGSTOP)
	err := server.Stop(testctx.Unending(t.Context(), 2*time.Second))
	require.ErrorContains(t, err, "embedded: stop: the server didn't end within")
	require.ErrorContains(t, err, "and was killed")
	assert.Empty(t, embedded.Strays(left.Data), "its children were ended too")
	assert.True(t, empty(temp))
}

func TestAServerThatIsTooSlowIsShutDownWithoutWriting(t *testing.T) {
	t.Parallel()
	temp := playground(t)
	server, _ := inside(t, embedded.TempDir(temp))
	require.NoError(t, server.Start(t.Context()))
	// A fast shutdown waits until every standby has confirmed what it was sent; this one never does.
	at := query[string](t, server.URL(), "SELECT pg_current_wal_flush_lsn()::text")
	standby, err := pgconn.Connect(t.Context(), server.URL()+"&replication=true")
	require.NoError(t, err)
	defer func() { _ = standby.Close(context.WithoutCancel(t.Context())) }()
	standby.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + at})
	require.NoError(t, standby.Frontend().Flush())
	message, err := standby.ReceiveMessage(t.Context())
	require.NoError(t, err)
	require.IsType(t, &pgproto3.CopyBothResponse{}, message)
	eventually(t, "the standby is served", func() bool {
		return query[int](t, server.URL(), "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1
	})

	err = server.Stop(testctx.Unending(t.Context(), 8*time.Second))
	require.ErrorContains(t, err, "embedded: stop: the server didn't end within")
	require.ErrorContains(t, err, "was shut down without writing its data")
	assert.True(t, empty(temp))
}

func TestTheEnvironmentOfTheProgramDoesntReachTheServer(t *testing.T) {
	t.Parallel()
	program := act(t, "tcp", playground(t), "PGDATA=/nowhere", "PGPORT=1", "PGHOST=nowhere", "PGOPTIONS=-c nonsense=1",
		"PGSSLMODE=verify-full", "PGUSER=nobody", "PGDATABASE=none", "PGSERVICE=none", "PGPASSFILE=/nowhere",
		"PGTARGETSESSIONATTRS=read-only", "APP_SECRET=hunter2")
	assert.Equal(t, "on", query[string](t, program.facts.URL, "SHOW synchronous_commit"))
	text, err := os.ReadFile(procPath(program.facts.PID, "environ"))
	require.NoError(t, err)
	for _, name := range []string{"PGDATA=", "PGPORT=", "PGOPTIONS=", "APP_SECRET=", "RDSFX_"} {
		assert.NotContains(t, string(text), name)
	}
	assert.Contains(t, string(text), "TZ=UTC")
}
