//go:build unix

package access

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckWritable returns an error if the current user can't create files in dir.
func CheckWritable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// FreeBytes returns the number of free bytes on dir's file system.
func FreeBytes(dir string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), nil //nolint:gosec,unconvert // sizes are positive; types differ between systems
}

// CheckReachable returns an error if dir or one of its parents doesn't let user enter. A nil user always passes.
func CheckReachable(dir string, user *User) error {
	if user == nil {
		return nil
	}
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		var enter os.FileMode
		switch {
		case int(stat.Uid) == user.UID:
			enter = 0o100
		case int(stat.Gid) == user.GID:
			enter = 0o010
		default:
			enter = 0o001
		}
		if info.Mode()&enter == 0 {
			return fmt.Errorf("user %s can't enter %s (mode %04o)", user.Name, path, info.Mode().Perm())
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

// IsOwn reports whether the file that info describes belongs to the current user.
func IsOwn(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// Owner returns the user id of the file that info describes. known is false where the file system has no user ids.
func Owner(info os.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
