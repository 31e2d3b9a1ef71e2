package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
)

// templateIn returns the path of the only template in a cache directory.
func templateIn(t *testing.T, cache string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cache, "initdb-*[^k]")) // not the .lock file
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func TestCreateTemporary_CopiesTheTemplate(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	initializer := newInitializer(t, cache)
	first, second := newDataDir(t), newDataDir(t)
	require.NoError(t, initializer.CreateTemporary(t.Context(), first))
	template := templateIn(t, cache)
	// A renamed file in the template shows where the second data directory comes from.
	require.NoError(t, os.Rename(filepath.Join(template, "data", "PG_VERSION"), filepath.Join(template, "data", "pg_version")))
	require.NoError(t, initializer.CreateTemporary(t.Context(), second))
	assert.FileExists(t, filepath.Join(first, "PG_VERSION"))
	assert.FileExists(t, filepath.Join(second, "pg_version"))
	info, err := os.Stat(second)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestCreateTemporary_ReplacesADamagedTemplate(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(template string) error{
		"empty file":         func(dir string) error { return os.Truncate(filepath.Join(dir, "data", "global", "pg_control"), 0) },
		"missing file":       func(dir string) error { return os.Remove(filepath.Join(dir, "data", "PG_VERSION")) },
		"malformed manifest": func(dir string) error { return os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("x"), 0o600) },
		"symbolic link":      func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "data", "link")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := filepath.Join(t.TempDir(), "cache")
			initializer := newInitializer(t, cache)
			require.NoError(t, initializer.CreateTemporary(t.Context(), newDataDir(t)))
			require.NoError(t, damage(templateIn(t, cache)))
			dataDir := newDataDir(t)
			require.NoError(t, initializer.CreateTemporary(t.Context(), dataDir))
			info, err := os.Stat(filepath.Join(dataDir, "global", "pg_control"))
			require.NoError(t, err)
			assert.NotZero(t, info.Size())
			assert.FileExists(t, filepath.Join(dataDir, "PG_VERSION"))
			assert.NoFileExists(t, filepath.Join(dataDir, "link"))
			assert.FileExists(t, filepath.Join(templateIn(t, cache), "data", "PG_VERSION"))
		})
	}
}

func TestCreateTemporary_CreatesOneTemplateConcurrently(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	initializer := newInitializer(t, cache)
	var group sync.WaitGroup
	for range 3 {
		dataDir := newDataDir(t)
		group.Go(func() {
			if err := initializer.CreateTemporary(t.Context(), dataDir); !assert.NoError(t, err) {
				return
			}
			assert.FileExists(t, filepath.Join(dataDir, "global", "pg_control"))
		})
	}
	group.Wait()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "a template and its lock file")
}

func TestCreateTemporary_SkipsUnusableCaches(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	writable := filepath.Join(t.TempDir(), "writable")
	require.NoError(t, os.Mkdir(writable, 0o700))
	require.NoError(t, os.Chmod(writable, 0o777))
	usable := filepath.Join(t.TempDir(), "usable")

	dataDir := newDataDir(t)
	require.NoError(t, newInitializer(t, filepath.Join(file, "cache"), writable).CreateTemporary(t.Context(), dataDir))
	assert.FileExists(t, filepath.Join(dataDir, "PG_VERSION"), "initdb ran without a cache")
	entries, err := os.ReadDir(writable)
	require.NoError(t, err)
	assert.Empty(t, entries, "a directory that others can write to is not used")

	require.NoError(t, newInitializer(t, writable, usable).CreateTemporary(t.Context(), newDataDir(t)))
	templateIn(t, usable)
}

func TestCreateTemporary_WaitForTheTemplateEndsWithContext(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	initializer := newInitializer(t, cache)
	require.NoError(t, initializer.CreateTemporary(t.Context(), newDataDir(t)))
	template := templateIn(t, cache)
	require.NoError(t, os.RemoveAll(template))
	lock, err := os.OpenFile(template+".lock", os.O_RDWR, 0)
	require.NoError(t, err)
	defer filelock.Release(lock)
	locked, err := filelock.Try(lock, true)
	require.NoError(t, err)
	require.True(t, locked)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = initializer.CreateTemporary(ctx, newDataDir(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "waiting for another process to create the template")
}

func TestCreateTemporary_LeavesNothingWhenCanceled(t *testing.T) {
	t.Parallel()
	dataDir := newDataDir(t)
	cause := errors.New("canceled by the test")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dataDir, "PG_VERSION")); err == nil {
				cancel(cause)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	require.ErrorIs(t, newInitializer(t).CreateTemporary(ctx, dataDir), cause)
	entries, err := os.ReadDir(dataDir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestCreateTemporary_QuotesInitdbErrors(t *testing.T) {
	t.Parallel()
	dataDir := newDataDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dataDir, "file"), nil, 0o600))
	err := newInitializer(t).CreateTemporary(t.Context(), dataDir)
	require.ErrorContains(t, err, "initdb: exit status 1:\n  ")
	require.ErrorContains(t, err, "exists but is not empty")
}

func TestCreateTemporary_RemovesOldTemplates(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	old, other := filepath.Join(cache, "initdb-12-old"), filepath.Join(cache, "other")
	for _, dir := range []string{old, other} {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		lastUse := time.Now().AddDate(-1, 0, 0)
		require.NoError(t, os.Chtimes(dir, lastUse, lastUse))
	}
	require.NoError(t, newInitializer(t, cache).CreateTemporary(t.Context(), newDataDir(t)))
	assert.NoDirExists(t, old)
	assert.DirExists(t, other, "only templates are removed")
}
