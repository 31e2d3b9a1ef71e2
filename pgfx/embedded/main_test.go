package embedded_test

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestMain(m *testing.M) {
	if play() {
		return
	}
	goleak.VerifyTestMain(m)
}

// start starts a server that is stopped at the end of the test.
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

// playground makes a short directory that every user can reach, in which all that the servers of a test leave can be seen.
func playground(tb testing.TB) string {
	tb.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = os.TempDir()
	}
	dir, err := os.MkdirTemp(base, "e") //nolint:usetesting // tb.TempDir is too long for a socket
	require.NoError(tb, err)
	require.NoError(tb, os.Chmod(dir, 0o777))
	tb.Cleanup(func() { // a keeper whose program has just ended may still be at work in it
		eventually(tb, "the playground goes", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// writeProgram writes a program. A process that is begun meanwhile would have the file open for writing, too, until it has
// become another program, and nobody can run a file that is being written.
func writeProgram(t *testing.T, path string, content io.Reader) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	target, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(target, content)
	require.NoError(t, err)
	require.NoError(t, target.Close())
}

// eventually waits for something that another process does.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	require.Eventually(tb, condition, 30*time.Second, 10*time.Millisecond, what)
}

// empty reports whether nothing is left in dir.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func stopWithin(t *testing.T, server *embedded.Server, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return server.Stop(ctx)
}
