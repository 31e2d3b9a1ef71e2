package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

const (
	// templateFormat changes when the layout of a template does.
	templateFormat = "2"
	templatePrefix = "initdb-"
	partialPrefix  = "new-"
	// templateMaxAge is how long an unused template is kept.
	templateMaxAge = 60 * 24 * time.Hour
)

// template is a cached data directory. Its subdirectory data is complete if it matches manifest.json.
type template struct{ path string }

func (t template) dataDir() string  { return filepath.Join(t.path, "data") }
func (t template) manifest() string { return filepath.Join(t.path, "manifest.json") }

// templateKey identifies everything that affects the content of a template.
func (i Initializer) templateKey() string {
	sum := sha256.New()
	install := i.Installation
	parts := slices.Concat([]string{templateFormat, install.BinDir, install.Version, install.Identity}, initdbOptions, temporaryOptions)
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return fmt.Sprintf("%d-%s", install.Major, hex.EncodeToString(sum.Sum(nil))[:16])
}

// createFromCache copies t to dataDir. If t doesn't exist, it runs initdb on dataDir and stores the result as t. A lock
// prevents other processes from doing the same work. done is false if the cache directory can't be used.
func (i Initializer) createFromCache(ctx context.Context, dataDir string, t template) (done bool, err error) {
	if t.copyTo(ctx, dataDir, i.User) {
		return true, nil
	}
	lock, err := os.OpenFile(filepath.Clean(t.path+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, nil // the next cache directory may be usable
	}
	defer filelock.Release(lock)
	// Some network file systems have no locks. Without one, several processes may create the same template.
	if err := filelock.Wait(ctx, lock, true); err != nil && ctx.Err() != nil {
		return false, fmt.Errorf("waiting for another process to create the template: %w", err)
	}
	if t.copyTo(ctx, dataDir, i.User) {
		return true, nil
	}
	if err := i.initdb(ctx, dataDir, temporaryOptions); err != nil {
		return false, err
	}
	t.store(ctx, dataDir)
	return true, nil
}

// copyTo copies the template to dataDir and reports whether it did. If the template is damaged, for example by a power failure,
// copyTo removes it and leaves dataDir empty.
func (t template) copyTo(ctx context.Context, dataDir string, user *access.User) bool {
	text, err := os.ReadFile(t.manifest())
	if err != nil {
		return false
	}
	var want manifest
	if err := json.Unmarshal(text, &want); err == nil {
		if got, err := copyTree(ctx, t.dataDir(), dataDir, user); err == nil && got == want {
			now := time.Now()
			_ = os.Chtimes(t.path, now, now)
			return true
		}
	}
	_ = removeContent(dataDir)
	if ctx.Err() == nil {
		_ = os.RemoveAll(t.path)
	}
	return false
}

// store makes a copy of dataDir the template. A rename publishes it once it is complete. Errors are ignored: without a
// template, the next server runs initdb.
func (t template) store(ctx context.Context, dataDir string) {
	dir, err := os.MkdirTemp(filepath.Dir(t.path), partialPrefix)
	if err != nil {
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	partial := template{path: dir}
	if err := os.Mkdir(partial.dataDir(), 0o700); err != nil {
		return
	}
	sum, err := copyTree(ctx, dataDir, partial.dataDir(), nil)
	if err != nil {
		return
	}
	text, err := json.Marshal(sum)
	if err != nil {
		return
	}
	if err := os.WriteFile(partial.manifest(), text, 0o600); err != nil {
		return
	}
	if err := os.Rename(dir, t.path); err != nil {
		return
	}
	t.prune(time.Now())
}

// prune removes templates that were not used for templateMaxAge, and partial ones of killed processes.
func (t template) prune(now time.Time) {
	entries, err := os.ReadDir(filepath.Dir(t.path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < templateMaxAge {
			continue
		}
		if strings.HasPrefix(entry.Name(), templatePrefix) || strings.HasPrefix(entry.Name(), partialPrefix) {
			_ = os.RemoveAll(filepath.Join(filepath.Dir(t.path), entry.Name()))
		}
	}
}
