package embedded_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestMain(m *testing.M) {
	if runProgram() {
		return
	}
	goleak.VerifyTestMain(m)
}

// start starts a server and stops it at the end of the test.
func start(t *testing.T, opts ...embedded.Option) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(server)) })
	return server
}

func stop(server *embedded.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return server.Stop(ctx)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn := connect(t, url)
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	require.NoError(t, conn.Close(t.Context()))
	return value
}

// newTempDir returns an empty directory for the servers of one test. Every user can write to it, and its path is short enough
// for sockets.
func newTempDir(tb testing.TB) string {
	tb.Helper()
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "e") //nolint:usetesting // tb.TempDir is too long for a socket
	require.NoError(tb, err)
	require.NoError(tb, os.Chmod(dir, 0o777))
	tb.Cleanup(func() { // the keeper of a program that has just ended may still remove files
		eventually(tb, "the temp directory can be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// writeExecutable writes an executable file. Between fork and exec, a child process would hold a copy of the descriptor, and a
// file that is open for writing can't be executed.
func writeExecutable(t *testing.T, path string, content io.Reader) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(file, content)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// lockPath locks a file, which it creates, or a directory. unlock may be called from any goroutine.
func lockPath(t *testing.T, path string) (unlock func()) {
	t.Helper()
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		file, err = os.Create(filepath.Clean(path))
	}
	require.NoError(t, err)
	locked, err := filelock.Try(file, true)
	require.NoError(t, err)
	require.True(t, locked)
	return func() { _ = file.Close() }
}

// eventually waits for an effect of another process.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	require.Eventually(tb, condition, 30*time.Second, 10*time.Millisecond, what)
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func stopWithin(t *testing.T, server *embedded.Server, timeout time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return server.Stop(ctx)
}
