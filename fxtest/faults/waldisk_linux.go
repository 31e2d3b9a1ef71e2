package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a memory file system of the given size on a new directory with the given owner.
func mountMemory(dir string, bytes int64, owner os.FileInfo) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return errors.Join(fmt.Errorf("mount: %w: %w", err, errors.ErrUnsupported), os.Remove(dir))
	}
	return copyOwner(owner, dir)
}

// unmount removes a file system, as soon as no process uses it.
func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }

// removeStaleMounts removes what mountMemory has left in directories whose process was killed. They have no lock file anymore. It
// ignores errors, because a later process tries again.
func removeStaleMounts(pattern string) {
	mounts, _ := filepath.Glob(filepath.Join(pattern, walDir)) // the only error is a bad pattern
	for _, mount := range mounts {
		dir := filepath.Dir(mount)
		if _, err := os.Stat(dir + lockSuffix); os.IsNotExist(err) {
			_ = unmount(mount)
			_ = os.RemoveAll(dir)
		}
	}
}

func isDiskFull(err error) bool { return errors.Is(err, unix.ENOSPC) }
