package migrate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/pressly/goose/v3"
)

// file is one SQL migration.
type file struct {
	name     string
	version  int64
	text     string
	checksum string
}

var (
	upAnnotation  = regexp.MustCompile(`(?m)^\s*--\s*\+goose\s+Up\s*$`)
	downSection   = regexp.MustCompile(`(?ms)^\s*--\s*\+goose\s+Down\s*$.*`)
	lineComment   = regexp.MustCompile(`(?m)^\s*--.*$`)
	noTransaction = regexp.MustCompile(`(?mi)^\s*--\s*\+goose\s+NO\s+TRANSACTION\s*$`)
)

// readFiles reads the SQL migrations of a directory and reports all mistakes in them at once.
func readFiles(files fs.FS, dir string) (fs.FS, map[int64]file, error) {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: directory %s: %w", dir, err)
	}
	names, err := fs.Glob(sub, "*.sql")
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: directory %s: %w", dir, err)
	}
	if len(names) == 0 {
		if _, err := fs.Stat(sub, "."); err != nil {
			return nil, nil, fmt.Errorf("migrate: directory %s: %w", dir, err)
		}
	}
	var errs []error
	byVersion := make(map[int64]file, len(names))
	for _, name := range names {
		f, err := readFile(sub, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, ok := byVersion[f.version]; ok {
			errs = append(errs, fmt.Errorf("migrate: %s and %s have the same version %d; rename the newer one", other.name, name, f.version))
			continue
		}
		byVersion[f.version] = f
	}
	return sub, byVersion, errors.Join(errs...)
}

func readFile(files fs.FS, name string) (file, error) {
	version, err := goose.NumericComponent(name)
	if err != nil {
		return file{}, fmt.Errorf("migrate: %s has no version; name it like 00001_%s", name, path.Base(name))
	}
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return file{}, fmt.Errorf("migrate: %s: %w", name, err)
	}
	text := string(content)
	if !upAnnotation.MatchString(text) {
		return file{}, fmt.Errorf("migrate: %s has no up migration; begin it with the line \"-- +goose Up\"", name)
	}
	if up := lineComment.ReplaceAllString(downSection.ReplaceAllString(text, ""), ""); strings.TrimSpace(up) == "" {
		return file{}, fmt.Errorf("migrate: %s has no statement after \"-- +goose Up\"; write one or delete the file", name)
	}
	sum := sha256.Sum256([]byte(strings.ReplaceAll(text, "\r\n", "\n")))
	return file{name: name, version: version, text: text, checksum: hex.EncodeToString(sum[:])}, nil
}

// lineOf returns the line at which a statement begins, 0 when the file does not contain it as it stands.
func (f file) lineOf(statement string) int {
	first, _, _ := strings.Cut(strings.TrimSpace(statement), "\n")
	at := strings.Index(f.text, strings.TrimSpace(statement))
	if at < 0 {
		at = strings.Index(f.text, first)
	}
	if at < 0 || first == "" {
		return 0
	}
	return 1 + strings.Count(f.text[:at], "\n")
}
