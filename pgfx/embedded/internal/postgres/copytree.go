package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// copyBufferSize is in bytes.
const copyBufferSize = 256 << 10

// manifest summarizes a directory tree. A copy is complete if its manifest equals the original's.
type manifest struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// copyTree copies the directories and files in from to the existing directory to and makes user the owner of everything,
// including to. Copies get mode 0700 or 0600. Anything but directories and regular files is an error.
func copyTree(ctx context.Context, from, to string, user *access.User) (manifest, error) {
	var (
		sum    manifest
		buffer = make([]byte, copyBufferSize)
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
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
	})
	if err != nil {
		return sum, err
	}
	// Directories change their owner last, so that user can't add anything while they are being filled.
	for _, dir := range dirs {
		if err := access.Chown(dir, user); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func copyFile(from, to string, user *access.User, buffer []byte) (size int64, err error) {
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
	// io.Copy would first try copy_file_range for each of about a thousand files, which fails between file systems.
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
