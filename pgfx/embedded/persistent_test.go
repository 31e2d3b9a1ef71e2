package embedded_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestAPersistentDatabaseSurvivesRestarts(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(playground(t), "deep", "data"), playground(t)
	server, err := embedded.Start(t.Context(), embedded.Persistent(dir), embedded.TempDir(temp))
	require.NoError(t, err)
	assert.Equal(t, dir, server.DataDir())
	conn := connect(t, server.URL())
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS answer")
	require.NoError(t, err)
	for name, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_segment_size": "16MB", "dynamic_shared_memory_type": "mmap",
	} {
		assert.Equal(t, want, query[string](t, server.URL(), "SHOW "+name), name)
	}
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, stop(server))
	assert.True(t, empty(temp))
	assert.NoFileExists(t, filepath.Join(dir, "postmaster.pid"), "it was shut down in order")

	next := start(t, embedded.Persistent(dir), embedded.TempDir(temp), embedded.TCP())
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"))
}

func TestAPersistentDatabaseRecoversFromAKilledKeeper(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(playground(t), "data"), playground(t)
	server, err := embedded.Start(t.Context(), embedded.Persistent(dir), embedded.TempDir(temp))
	require.NoError(t, err)
	_, err = connect(t, server.URL()).Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS answer")
	require.NoError(t, err)
	keeper, err := os.FindProcess(server.KeeperPID())
	require.NoError(t, err)
	require.NoError(t, keeper.Kill())
	eventually(t, "the server ends", func() bool { return server.PID() == 0 && len(embedded.Strays(dir)) == 0 })

	next := start(t, embedded.Persistent(dir), embedded.TempDir(temp))
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"))
	eventually(t, "the stale directory goes", func() bool {
		_, err := os.Stat(server.Dir())
		return os.IsNotExist(err)
	})
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"), "sweeping spared the server that runs there now")
}

func TestAPersistentDirectoryCanBeMadeBefore(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server := start(t, embedded.Persistent(dir))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestAPIDFileThatNamesAStrangerIsNoServer(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere nobody can tell")
	}
	dir := playground(t)
	stranger := exec.CommandContext(t.Context(), "sleep", "300")
	require.NoError(t, stranger.Start())
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()
	for range 2 {
		server, _ := inside(t, embedded.Persistent(dir))
		require.NoError(t, server.Start(t.Context()))
		require.NoError(t, stop(server))
		// As after the restart of a container, where numbers of processes are soon used again.
		text := fmt.Sprintf("%d\n%s\n", stranger.Process.Pid, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600))
	}
}

func TestADirectoryThatIsJustBeingSweptIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	free, err := embedded.LockDir(dir)
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, free)
	server, _ := inside(t, embedded.Persistent(dir))
	require.NoError(t, server.Start(t.Context()))
}

func TestDirectoriesThatCantBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	refused := func(t *testing.T, dir string, want ...string) {
		t.Helper()
		temp := playground(t)
		server, _ := inside(t, embedded.Persistent(dir), embedded.TempDir(temp))
		err := server.Start(t.Context())
		for _, text := range append(want, "embedded: start: data directory "+dir) {
			require.ErrorContains(t, err, text)
		}
		assert.True(t, empty(temp))
	}
	t.Run("something else is in it", func(t *testing.T) {
		t.Parallel()
		dir := playground(t)
		write(t, dir, "thesis.txt", "irreplaceable")
		refused(t, dir, "is neither empty nor a PostgreSQL cluster: choose another directory")
		assert.FileExists(t, filepath.Join(dir, "thesis.txt"))
	})
	t.Run("another major version made it", func(t *testing.T) {
		t.Parallel()
		dir := playground(t)
		write(t, dir, "PG_VERSION", "9.6\n")
		refused(t, dir, "was made by PostgreSQL 9.6, the server is PostgreSQL ", embedded.EnvBin)
	})
	t.Run("a server of ours runs in it", func(t *testing.T) {
		t.Parallel()
		dir := playground(t)
		server := start(t, embedded.Persistent(dir))
		refused(t, dir, fmt.Sprintf("is used by a running server (process %d, says its postmaster.pid)", server.PID()))
		assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	})
	t.Run("another process has claimed it", func(t *testing.T) {
		t.Parallel()
		dir := playground(t)
		free, err := embedded.LockDir(dir)
		require.NoError(t, err)
		defer free()
		refused(t, dir, "is used by another process that starts or stops a server")
	})
	t.Run("somebody else's server runs in it", func(t *testing.T) {
		t.Parallel()
		server, err := embedded.LeaveOrphan(t.Context(), playground(t), "")
		require.NoError(t, err)
		defer server.Kill()
		refused(t, server.Data, fmt.Sprintf("is used by a running server (process %d, says its postmaster.pid)", server.PID))
	})
	t.Run("it belongs to somebody else", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("only root can give a directory away")
		}
		dir := playground(t)
		server, err := embedded.Start(t.Context(), embedded.Persistent(dir))
		require.NoError(t, err)
		require.NoError(t, stop(server))
		require.NoError(t, os.Chown(dir, 2, 2))
		refused(t, dir, "belongs to the user bin, the server runs as ", embedded.EnvUser+"=bin")
	})
	t.Run("the server's user can't reach it", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("the server runs as we do")
		}
		closed := playground(t)
		require.NoError(t, os.Chmod(closed, 0o700))
		refused(t, filepath.Join(closed, "data"), "can't enter "+closed+" (mode 0700)", "chmod o+x")
	})
}
