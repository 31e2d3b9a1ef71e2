package postgres_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newInitializer returns an initializer with the installed binaries and the given cache directories.
func newInitializer(t *testing.T, cacheDirs ...string) postgres.Initializer {
	t.Helper()
	found, err := postgres.Find(os.Getenv, postgres.Downloads{})
	require.NoError(t, err)
	user, err := access.ServerUser(os.Geteuid(), os.Getenv(access.EnvUser))
	require.NoError(t, err)
	return postgres.Initializer{Installation: found.Installation, User: user, CacheDirs: cacheDirs}
}

// newDataDir returns an empty directory that the server's user can reach.
func newDataDir(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = os.TempDir()
	}
	parent, err := os.MkdirTemp(base, "e") //nolint:usetesting // other users can't enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(parent)) })
	require.NoError(t, os.Chmod(parent, 0o755))
	dir := filepath.Join(parent, "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	return dir
}

// writeBinaries creates a directory with a postgres and an initdb that print version.
func writeBinaries(t *testing.T, dir, version string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"postgres", "initdb"} {
		writeScript(t, filepath.Join(dir, name), "echo '"+name+" (PostgreSQL) "+version+"'")
	}
	return dir
}

// writeScript writes an executable shell script. Between fork and exec, a child process would hold a copy of the descriptor,
// and a file that is open for writing can't be executed.
func writeScript(t *testing.T, path, commands string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(file, strings.NewReader("#!/bin/sh\n"+commands+"\n"))
	require.NoError(t, err)
	require.NoError(t, file.Close())
}
