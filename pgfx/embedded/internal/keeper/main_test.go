package keeper_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTempDir returns an empty directory that every user can write to and whose path is short enough for sockets.
func newTempDir(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "e") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func serverUser(t *testing.T) *access.User {
	t.Helper()
	user, err := access.ServerUser(os.Geteuid(), os.Getenv(access.EnvUser))
	require.NoError(t, err)
	return user
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// eventually waits for an effect of another process.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, 10*time.Millisecond, what)
}
