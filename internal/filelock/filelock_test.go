package filelock_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func try(t *testing.T, file *os.File, exclusive bool) bool {
	t.Helper()
	locked, err := filelock.Try(file, exclusive)
	require.NoError(t, err)
	return locked
}

func TestTry_SharedLocksExcludeExclusiveOnes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, second, third := open(t, path), open(t, path), open(t, path)
	require.True(t, try(t, first, false))
	require.True(t, try(t, second, false))
	assert.False(t, try(t, third, true))
	filelock.Release(first)
	assert.False(t, try(t, third, true))
	require.NoError(t, filelock.Unlock(second))
	assert.True(t, try(t, third, true))
	assert.False(t, try(t, second, false))
}

func TestWait_EndsWithContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	holder, waiter := open(t, path), open(t, path)
	require.True(t, try(t, holder, true))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, filelock.Wait(ctx, waiter, true), context.DeadlineExceeded)
	time.AfterFunc(10*time.Millisecond, func() { filelock.Release(holder) })
	require.NoError(t, filelock.Wait(t.Context(), waiter, true))
}

func TestIsCurrent_DetectsAReplacedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	file := open(t, path)
	assert.True(t, filelock.IsCurrent(file))
	require.NoError(t, os.Remove(path))
	assert.False(t, filelock.IsCurrent(file))
	open(t, path)
	assert.False(t, filelock.IsCurrent(file))
}
