package access

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// The permission bits that other users must not have.
const (
	// NoWrite forbids others to change a directory.
	NoWrite os.FileMode = 0o022
	// NoAccess forbids others to read, change or enter a directory.
	NoAccess os.FileMode = 0o077
)

// MakePrivate creates the directory dir with mode 0700, but not its parents. If dir exists, it must pass [CheckPrivate].
func MakePrivate(dir string, forbidden os.FileMode) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return CheckPrivate(dir, forbidden)
}

// CheckPrivate returns an error unless dir is a directory that belongs to the current user and has none of the forbidden
// permission bits. A link is not a directory.
func CheckPrivate(dir string, forbidden os.FileMode) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory: remove it", dir)
	case !IsOwn(info):
		return fmt.Errorf("%s belongs to another user: ask its owner to remove it", dir)
	case info.Mode().Perm()&forbidden != 0 && runtime.GOOS != "windows":
		return fmt.Errorf("%s is accessible to other users (mode %04o): run chmod 700", dir, info.Mode().Perm())
	}
	return nil
}
