package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyBuffer is the size of the pieces in which files are copied.
const copyBuffer = 256 << 10

// tally is what a tree holds; a copy with another tally than its original is no copy.
type tally struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// copyTree copies the directories and files below from into the existing directory to and gives everything, to included, to user.
// Only the owner may read the copies. Anything that is neither directory nor file is an error.
func copyTree(ctx context.Context, from, to string, user *osUser) (tally, error) {
	var (
		sum    tally
		buffer = make([]byte, copyBuffer)
		dirs   = []string{to}
	)
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		relative, err := filepath.Rel(from, path)
		if err != nil || relative == "." {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			dirs = append(dirs, target)
			return os.Mkdir(target, 0o700)
		case entry.Type().IsRegular():
			size, err := copyFile(path, target, user, buffer)
			sum.Files++
			sum.Bytes += size
			return err
		default:
			return fmt.Errorf("%s is neither file nor directory", path)
		}
	})
	if err != nil {
		return sum, err
	}
	// Directories change hands last, so that nobody else can put anything into them before.
	for _, dir := range dirs {
		if err := give(dir, user); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func copyFile(from, to string, user *osUser, buffer []byte) (size int64, err error) {
	source, err := os.Open(filepath.Clean(from))
	if err != nil {
		return 0, err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(filepath.Clean(to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	// Plain reads and writes: what io.Copy tries first is refused between file systems, a thousand times.
	for {
		n, readErr := source.Read(buffer)
		if n > 0 {
			size += int64(n)
			if _, err := target.Write(buffer[:n]); err != nil {
				return size, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return size, readErr
		}
	}
	if user != nil {
		return size, target.Chown(user.UID, user.GID)
	}
	return size, nil
}

// give makes user the owner of path; without a user it stays ours.
func give(path string, user *osUser) error {
	if user == nil {
		return nil
	}
	return os.Lchown(path, user.UID, user.GID)
}
