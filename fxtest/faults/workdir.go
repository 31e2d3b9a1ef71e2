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
)

const (
	// homePrefix begins the names of the directories that hold the data of tests' own servers; the number of the owner follows.
	homePrefix = "rdsfx-faults-"
	lockSuffix = ".lock"
)

// homeBases lists where homes may be, the best first: on Linux the memory file system when it has room.
func homeBases() []string {
	const memory, needed = "/dev/shm", 512 << 20
	bases := []string{os.TempDir()}
	if runtime.GOOS == "linux" && roomIn(memory) >= needed {
		bases = append([]string{memory}, bases...)
	}
	return bases
}

var sweptHomes sync.Once //nolint:gochecknoglobals // what dead processes left is swept once a process

// newHome makes a directory that the server's user can get through, and removes it at the end of the test. The home of a
// process that is killed is removed by the keeper of its server, or, where the server didn't run at that moment, by the next
// process that makes one: a lock beside it tells that its owner is dead.
func newHome(tb testing.TB) string {
	tb.Helper()
	bases := homeBases()
	owner := fmt.Sprintf("%s%d-", homePrefix, max(os.Geteuid(), 0))
	sweptHomes.Do(func() {
		for _, base := range bases {
			sweepHomes(filepath.Join(base, owner+"*"+lockSuffix))
		}
	})
	var errs []error
	for _, base := range bases {
		home := filepath.Join(base, owner+strings.ToLower(rand.Text()[:12]))
		lock, err := makeHome(home)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tb.Cleanup(func() {
			if err := os.RemoveAll(home); err != nil {
				tb.Errorf("faults: %v", err)
			}
			_ = os.Remove(lock.Name())
			_ = lock.Close()
		})
		return home
	}
	tb.Fatalf("faults: no directory for the server's data: %v: set TMPDIR to a directory that you can write to", errors.Join(errs...))
	return ""
}

func makeHome(home string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Clean(home+lockSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if locked := lockFile(lock); !locked {
		err = fmt.Errorf("%s can't be locked", lock.Name())
	}
	if err == nil {
		err = os.Mkdir(home, 0o711) //nolint:gosec // the server's user passes through it to the directory that is its own
	}
	if err == nil {
		err = os.Chmod(home, 0o711) //nolint:gosec // whatever the umask is
	}
	if err != nil {
		_ = os.Remove(lock.Name())
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// sweepHomes removes the homes whose lock is free. What can't be removed stays for the next one.
func sweepHomes(pattern string) {
	if !canLock {
		return
	}
	locks, _ := filepath.Glob(pattern) // only a bad pattern is an error
	for _, name := range locks {
		lock, err := os.OpenFile(filepath.Clean(name), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lockFile(lock) && os.RemoveAll(strings.TrimSuffix(name, lockSuffix)) == nil {
			_ = os.Remove(name)
		}
		_ = lock.Close()
	}
}

// copyTree copies the directories and files below from to the new directory to, with their owners.
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
		return errors.Join(err, giveLike(info, target))
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(filepath.Clean(from)) // at most a segment of the write-ahead log
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode) //nolint:gosec // within a directory of ours
}
