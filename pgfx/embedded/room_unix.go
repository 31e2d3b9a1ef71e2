//go:build unix

package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

func freeBytes(dir string) (uint64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), nil //nolint:gosec,unconvert // sizes are positive; types differ between systems
}

// reachable reports whether user can get to dir: every directory on the way must let them pass.
func reachable(dir string, user *osUser) error {
	if user == nil {
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		var pass os.FileMode
		switch {
		case int(stat.Uid) == user.UID:
			pass = 0o100
		case int(stat.Gid) == user.GID:
			pass = 0o010
		default:
			pass = 0o001
		}
		if info.Mode()&pass == 0 {
			return fmt.Errorf("the user %s can't enter %s (mode %04o)", user.Name, at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// ownedByUs reports whether info describes something that belongs to this process's user.
func ownedByUs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// ownerOf returns the user that info's file belongs to.
func ownerOf(info os.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
