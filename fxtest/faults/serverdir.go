package faults

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
)

const (
	// serverDirPrefix starts the name of each server's directory, followed by the user ID.
	serverDirPrefix = "rdsfx-faults-"
	lockSuffix      = ".lock"
)

// baseDirs returns the parent directories for servers, in order of preference. The memory file system of Linux comes first
// if it has enough space.
func baseDirs() []string {
	const memory, needed = "/dev/shm", 512 << 20
	dirs := []string{os.TempDir()}
	if runtime.GOOS == "linux" && freeSpace(memory) >= needed {
		dirs = append([]string{memory}, dirs...)
	}
	return dirs
}

var removeStaleOnce sync.Once //nolint:gochecknoglobals // once for each process

// newServerDir creates a directory for a server and removes it at the end of the test. The server's user can traverse it.
//
// If this process is killed, the supervisor of the running server removes the directory. If the server was not running, a
// later process removes it, because the lock file beside the directory is no longer locked.
func newServerDir(tb testing.TB) string {
	tb.Helper()
	bases := baseDirs()
	prefix := fmt.Sprintf("%s%d-", serverDirPrefix, max(os.Geteuid(), 0))
	removeStaleOnce.Do(func() {
		for _, base := range bases {
			removeStaleDirs(filepath.Join(base, prefix+"*"+lockSuffix))
			removeStaleMounts(filepath.Join(base, prefix+"*"))
		}
	})
	var errs []error
	for _, base := range bases {
		dir := filepath.Join(base, prefix+strings.ToLower(rand.Text()[:12]))
		lock, err := createServerDir(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tb.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				tb.Errorf("faults: %v", err)
			}
			_ = os.Remove(lock.Name())
			_ = lock.Close()
		})
		return dir
	}
	tb.Fatalf("faults: no directory for the server's data: %v: set TMPDIR to a writable directory", errors.Join(errs...))
	return ""
}

// createServerDir creates a directory and its lock file, and returns the locked file.
func createServerDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Clean(dir+lockSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := filelock.Try(lock, true)
	if err == nil && !locked {
		err = fmt.Errorf("%s can't be locked", lock.Name())
	}
	if err == nil {
		err = os.Mkdir(dir, 0o711) //nolint:gosec // the server's user must be able to traverse it
	}
	if err == nil {
		err = os.Chmod(dir, 0o711) //nolint:gosec // the umask may have removed permissions
	}
	if err != nil {
		_ = os.Remove(lock.Name())
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// removeStaleDirs removes the directories whose lock files match the pattern and are not locked. It ignores errors, because a
// later process tries again.
func removeStaleDirs(pattern string) {
	locks, _ := filepath.Glob(pattern) // the only error is a bad pattern
	for _, name := range locks {
		lock, err := os.OpenFile(filepath.Clean(name), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if locked, _ := filelock.Try(lock, true); locked && os.RemoveAll(strings.TrimSuffix(name, lockSuffix)) == nil {
			_ = os.Remove(name)
		}
		_ = lock.Close()
	}
}

// copyTree copies a directory recursively, with owners and permissions, to a new directory.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, info.Mode().Perm())
		case info.Mode().IsRegular():
			err = copyFile(path, target, info.Mode().Perm())
		default:
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		return errors.Join(err, copyOwner(info, target))
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(filepath.Clean(from)) // at most a WAL segment of 16 MB
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode) //nolint:gosec // within a server's directory
}
