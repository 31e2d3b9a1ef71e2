package faults_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

func TestRemoveStaleDirs_KeepsLocked(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	used, stale := filepath.Join(base, "dir-1"), filepath.Join(base, "dir-2")
	lock, err := faults.CreateServerDir(used)
	require.NoError(t, err)
	staleLock, err := faults.CreateServerDir(stale)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(stale, "data"), nil, 0o600))
	require.NoError(t, staleLock.Close()) // as the end of its process does

	_, err = faults.CreateServerDir(used)
	require.ErrorIs(t, err, os.ErrExist)
	// A child process that is just being started holds a copy of the lock until it calls exec.
	removed := func(dir string) func() bool {
		return func() bool {
			faults.RemoveStaleDirs(filepath.Join(base, "dir-*.lock"))
			_, err := os.Stat(dir)
			return errors.Is(err, os.ErrNotExist)
		}
	}
	require.Eventually(t, removed(stale), timeout, time.Millisecond)
	assert.DirExists(t, used)
	assert.NoFileExists(t, stale+".lock")
	require.NoError(t, lock.Close())
	require.Eventually(t, removed(used), timeout, time.Millisecond)
}
