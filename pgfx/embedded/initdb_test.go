package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// template returns the template in a cache.
func template(t *testing.T, cache string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cache, "initdb-*[^k]"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func newData(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(playground(t), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	return dir
}

func TestInitdbRunsOnceAndItsResultIsCopied(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	one, two := newData(t), newData(t)
	require.NoError(t, embedded.CreateCluster(t.Context(), one, cache))
	made := template(t, cache)
	// What is only in the template shows where a cluster comes from.
	require.NoError(t, os.Rename(filepath.Join(made, "data", "PG_VERSION"), filepath.Join(made, "data", "pg_version")))
	require.NoError(t, embedded.CreateCluster(t.Context(), two, cache))
	assert.FileExists(t, filepath.Join(one, "PG_VERSION"))
	assert.FileExists(t, filepath.Join(two, "pg_version"))
	info, err := os.Stat(two)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestADamagedTemplateIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(dir string) error{
		"a file is empty":     func(dir string) error { return os.Truncate(filepath.Join(dir, "data", "global", "pg_control"), 0) },
		"a file is gone":      func(dir string) error { return os.Remove(filepath.Join(dir, "data", "PG_VERSION")) },
		"the tally is broken": func(dir string) error { return os.WriteFile(filepath.Join(dir, "tally"), []byte("x"), 0o600) },
		"a link is in it":     func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "data", "link")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := filepath.Join(t.TempDir(), "cache")
			require.NoError(t, embedded.CreateCluster(t.Context(), newData(t), cache))
			require.NoError(t, damage(template(t, cache)))
			data := newData(t)
			require.NoError(t, embedded.CreateCluster(t.Context(), data, cache))
			info, err := os.Stat(filepath.Join(data, "global", "pg_control"))
			require.NoError(t, err)
			assert.NotZero(t, info.Size())
			assert.FileExists(t, filepath.Join(data, "PG_VERSION"))
			assert.NoFileExists(t, filepath.Join(data, "link"))
			assert.FileExists(t, filepath.Join(template(t, cache), "data", "PG_VERSION"))
		})
	}
}

func TestSeveralAtOnceMakeOneTemplate(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	var group sync.WaitGroup
	for range 3 {
		data := newData(t)
		group.Go(func() {
			if err := embedded.CreateCluster(t.Context(), data, cache); !assert.NoError(t, err) {
				return
			}
			assert.FileExists(t, filepath.Join(data, "global", "pg_control"))
		})
	}
	group.Wait()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "a template and its lock")
}

func TestACacheThatCantBeUsedOnlyCostsTime(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	next := filepath.Join(t.TempDir(), "next")

	data := newData(t)
	require.NoError(t, embedded.CreateCluster(t.Context(), data, filepath.Join(file, "cache"), open))
	assert.FileExists(t, filepath.Join(data, "PG_VERSION"))
	assert.True(t, empty(open))
	require.NoError(t, embedded.CreateCluster(t.Context(), newData(t), open, next))
	template(t, next)
}

func TestWaitingForAnothersTemplateEndsWithTheContext(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	require.NoError(t, embedded.CreateCluster(t.Context(), newData(t), cache))
	made := template(t, cache)
	require.NoError(t, os.RemoveAll(made))
	free, err := embedded.Lock(made + ".lock")
	require.NoError(t, err)
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = embedded.CreateCluster(ctx, newData(t), cache)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "waiting for another process that makes the template")
}

func TestAnInterruptedInitdbLeavesTheDirectoryEmpty(t *testing.T) {
	t.Parallel()
	data := newData(t)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
				cancel(enough)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	require.ErrorIs(t, embedded.CreateCluster(ctx, data), enough)
	left, err := os.ReadDir(data)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAFailingInitdbIsQuoted(t *testing.T) {
	t.Parallel()
	data := newData(t)
	require.NoError(t, os.WriteFile(filepath.Join(data, "file"), nil, 0o600))
	err := embedded.CreateCluster(t.Context(), data)
	require.ErrorContains(t, err, "initdb: exit status 1:\n  ")
	require.ErrorContains(t, err, "exists but is not empty")
}

func TestOldTemplatesGo(t *testing.T) {
	t.Parallel()
	cache := filepath.Join(t.TempDir(), "cache")
	old, other := filepath.Join(cache, "initdb-12-old"), filepath.Join(cache, "something")
	for _, dir := range []string{old, other} {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		then := time.Now().AddDate(-1, 0, 0)
		require.NoError(t, os.Chtimes(dir, then, then))
	}
	require.NoError(t, embedded.CreateCluster(t.Context(), newData(t), cache))
	assert.NoDirExists(t, old)
	assert.DirExists(t, other, "what isn't ours stays")
}

func TestTheLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	tail, err := embedded.WriteLog(path, 100, "first\n", "second line, which is longer\n", string(make([]byte, 90))+"\nlast\n")
	require.NoError(t, err)
	assert.Contains(t, tail, "\n  last")
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	before, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	assert.Equal(t, "first\nsecond line, which is longer\n", string(before))
	assert.Contains(t, string(now), "last")
	tail, err = embedded.WriteLog(path, 1000, strings.Repeat("line\n", 100))
	require.NoError(t, err)
	assert.Equal(t, ":"+strings.Repeat("\n  line", 12), tail, "an error quotes the end only")
	_, err = embedded.WriteLog(filepath.Join(path, "x"), 1)
	require.Error(t, err)
}
