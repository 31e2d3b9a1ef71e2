package embedded_test

import (
	"context"
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
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestPersistent_DataSurvivesRestarts(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(newTempDir(t), "deep", "data"), newTempDir(t)
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
	assert.True(t, isEmpty(temp))
	assert.NoFileExists(t, filepath.Join(dir, "postmaster.pid"), "the shutdown was orderly")

	next := start(t, embedded.Persistent(dir), embedded.TempDir(temp), embedded.TCP())
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"))
}

func TestPersistent_RecoversFromAKilledKeeper(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(newTempDir(t), "data"), newTempDir(t)
	server, err := embedded.Start(t.Context(), embedded.Persistent(dir), embedded.TempDir(temp))
	require.NoError(t, err)
	_, err = connect(t, server.URL()).Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS answer")
	require.NoError(t, err)
	keeper, err := os.FindProcess(server.KeeperPID())
	require.NoError(t, err)
	require.NoError(t, keeper.Kill())
	eventually(t, "the server ends", func() bool { return server.PID() == 0 && len(postgres.Processes(dir)) == 0 })

	next := start(t, embedded.Persistent(dir), embedded.TempDir(temp))
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"))
	eventually(t, "the stale server directory is removed", func() bool {
		_, err := os.Stat(server.Dir())
		return os.IsNotExist(err)
	})
	assert.Equal(t, 42, query[int](t, next.URL(), "SELECT answer FROM kept"), "the sweep doesn't kill the new server")
}

func TestPersistent_UsesAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Persistent(newTempDir(t)))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestPersistent_IgnoresAPIDFileOfAnotherProgram(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the working directory of a process is only known on Linux")
	}
	dir := newTempDir(t)
	other := exec.CommandContext(t.Context(), "sleep", "300")
	require.NoError(t, other.Start())
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	for range 2 {
		server, _ := newServer(t, embedded.Persistent(dir))
		require.NoError(t, server.Start(t.Context()))
		require.NoError(t, stop(server))
		// After the restart of a container, process ids are soon reused.
		text := fmt.Sprintf("%d\n%s\n", other.Process.Pid, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600))
	}
}

func TestPersistent_WaitsForASweep(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	time.AfterFunc(50*time.Millisecond, lockPath(t, dir))
	server, _ := newServer(t, embedded.Persistent(dir))
	require.NoError(t, server.Start(t.Context()))
}

// startPostgres starts a server in dataDir without this package's keeper and returns its process id.
func startPostgres(t *testing.T, dataDir string) int {
	t.Helper()
	found, err := postgres.Find(os.Getenv, postgres.Downloads{})
	require.NoError(t, err)
	user, err := access.ServerUser(os.Geteuid(), os.Getenv(embedded.EnvUser))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dataDir, 0o700))
	initializer := postgres.Initializer{Installation: found.Installation, User: user, CacheDirs: postgres.CacheDirs()}
	require.NoError(t, initializer.CreateTemporary(t.Context(), dataDir))
	log, err := postgres.OpenLog(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	config := postgres.Config{
		Installation: found.Installation, User: user, DataDir: dataDir,
		Args: []string{"-c", "listen_addresses=", "-c", "unix_socket_directories=" + dataDir},
	}
	server, err := postgres.Start(config, log)
	require.NoError(t, err)
	t.Cleanup(func() {
		server.Stop(postgres.StopPlan{Immediate: 10 * time.Second})
		log.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, server.AwaitReady(ctx))
	return server.PID()
}

func TestPersistent_RejectsUnusableDirectories(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	assertRejected := func(t *testing.T, dir string, want ...string) {
		t.Helper()
		temp := newTempDir(t)
		server, _ := newServer(t, embedded.Persistent(dir), embedded.TempDir(temp))
		err := server.Start(t.Context())
		for _, text := range append(want, "embedded: start: data directory "+dir) {
			require.ErrorContains(t, err, text)
		}
		assert.True(t, isEmpty(temp))
	}
	t.Run("contains other files", func(t *testing.T) {
		t.Parallel()
		dir := newTempDir(t)
		write(t, dir, "thesis.txt", "irreplaceable")
		assertRejected(t, dir, "is neither empty nor a PostgreSQL data directory: choose another directory")
		assert.FileExists(t, filepath.Join(dir, "thesis.txt"))
	})
	t.Run("created by another major version", func(t *testing.T) {
		t.Parallel()
		dir := newTempDir(t)
		write(t, dir, "PG_VERSION", "9.6\n")
		assertRejected(t, dir, "was created by PostgreSQL 9.6, but the server is PostgreSQL ", embedded.EnvBin)
	})
	t.Run("used by a server of this package", func(t *testing.T) {
		t.Parallel()
		dir := newTempDir(t)
		server := start(t, embedded.Persistent(dir))
		assertRejected(t, dir, fmt.Sprintf("is used by a running server (process %d, from its postmaster.pid)", server.PID()))
		assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	})
	t.Run("locked by another process", func(t *testing.T) {
		t.Parallel()
		dir := newTempDir(t)
		defer lockPath(t, dir)()
		assertRejected(t, dir, "is locked by another process that starts or stops a server")
	})
	t.Run("used by another server", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(newTempDir(t), "data")
		pid := startPostgres(t, dir)
		assertRejected(t, dir, fmt.Sprintf("is used by a running server (process %d, from its postmaster.pid)", pid))
	})
	t.Run("belongs to another user", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("only root can change the owner of a directory")
		}
		dir := newTempDir(t)
		server, err := embedded.Start(t.Context(), embedded.Persistent(dir))
		require.NoError(t, err)
		require.NoError(t, stop(server))
		require.NoError(t, os.Chown(dir, 2, 2))
		assertRejected(t, dir, "belongs to user bin, but the server runs as ", embedded.EnvUser+"=bin")
	})
	t.Run("unreachable for the server's user", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("the server runs as the current user")
		}
		closed := newTempDir(t)
		require.NoError(t, os.Chmod(closed, 0o700))
		assertRejected(t, filepath.Join(closed, "data"), "can't enter "+closed+" (mode 0700)", "chmod o+x")
	})
}
