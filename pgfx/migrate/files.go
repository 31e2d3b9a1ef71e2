package migrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rdsfx-go/rdsfx/internal/goosefile"
)

// file is one SQL migration.
type file struct {
	goosefile.File

	checksum string // of its content with line feeds as line ends
}

// readFiles reads the SQL migrations of a directory and reports all mistakes in them at once.
func readFiles(files fs.FS, dir string) (map[int64]file, error) {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		return nil, fmt.Errorf("migrate: directory %s: %w", dir, err)
	}
	read, err := goosefile.ReadDir(sub)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("migrate: directory %s is not among the files: correct WithDir, or the pattern of go:embed: %w", dir, err)
	}
	if err != nil && !errors.Is(err, goosefile.ErrNoFiles) { // there may be migrations in Go
		return nil, fmt.Errorf("migrate: directory %s: %w", dir, err)
	}
	byVersion := make(map[int64]file, len(read))
	for _, f := range read {
		content, err := fs.ReadFile(sub, f.Name)
		if err != nil {
			return nil, fmt.Errorf("migrate: directory %s: %s: %w", dir, f.Name, err)
		}
		sum := sha256.Sum256(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")))
		byVersion[f.Version] = file{File: f, checksum: hex.EncodeToString(sum[:])}
	}
	return byVersion, nil
}

// checksumOf returns a checksum of the first n statements.
func (f file) checksumOf(n int) string {
	hash := sha256.New()
	for _, statement := range f.Up[:n] {
		_, _ = fmt.Fprintf(hash, "%d\n%s\n", len(statement.SQL), statement.SQL)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
