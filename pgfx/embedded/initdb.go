package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	superuser = "postgres"
	// walSegment is the size of a WAL segment of throw-away servers in MB: each server begins with one, PostgreSQL's 16 MB would
	// be more than half of what is copied.
	walSegment = "--wal-segsize=4"
	// templateLife is how long a template that nobody uses is kept.
	templateLife = 60 * 24 * time.Hour
)

// initdbOptions are those of every cluster that this package makes.
var initdbOptions = []string{"--username=" + superuser, "--encoding=UTF8", "--locale=C", "--auth=trust"}

// throwAwayOptions make initdb fast at the price of durability.
var throwAwayOptions = []string{"--no-sync", walSegment}

// cluster makes data directories.
type cluster struct {
	install installation
	user    *osUser
	// caches are the directories in which the template may be kept, the best first.
	caches []string
}

// cacheDirs lists where templates may be kept.
func cacheDirs() []string {
	var dirs []string
	if dir, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(dir, "rdsfx"))
	}
	return append(dirs, filepath.Join(os.TempDir(), fmt.Sprintf("%scache-%d", prefix, max(os.Geteuid(), 0))))
}

// create fills the existing, empty directory data with a new cluster for a throw-away server: a copy of the template, which it
// makes first when there is none. A cache that can't be used only costs time.
func (c cluster) create(ctx context.Context, data string) error {
	for _, dir := range c.caches {
		if os.MkdirAll(filepath.Dir(dir), 0o700) != nil || privateDir(dir, 0o022) != nil {
			continue
		}
		cache := templateCache{path: filepath.Join(dir, "initdb-"+c.key())}
		if cache.use(ctx, data, c.user) {
			return nil
		}
		lock, err := os.OpenFile(filepath.Clean(cache.path+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		err = c.createFirst(ctx, data, cache, lock)
		giveUp(lock)
		return err
	}
	return c.initdb(ctx, data, throwAwayOptions)
}

// createFirst makes the cluster and the template, unless another process does meanwhile.
func (c cluster) createFirst(ctx context.Context, data string, cache templateCache, lock *os.File) error {
	// A lock that can't be had at all, as on some network file systems, only means that several do the same work.
	if err := waitLock(ctx, lock, true); err != nil && ctx.Err() != nil {
		return fmt.Errorf("waiting for another process that makes the template: %w", err)
	}
	if cache.use(ctx, data, c.user) {
		return nil
	}
	if err := c.initdb(ctx, data, throwAwayOptions); err != nil {
		return err
	}
	cache.store(ctx, data)
	return nil
}

// key tells templates apart that differ in anything that shapes them.
func (c cluster) key() string {
	sum := sha256.New()
	parts := slices.Concat([]string{"1", c.install.BinDir, c.install.Version, c.install.Identity}, initdbOptions, throwAwayOptions)
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return fmt.Sprintf("%d-%s", c.install.Major, hex.EncodeToString(sum.Sum(nil))[:16])
}

// initdb makes a cluster in data, which must be empty, as the server's user.
func (c cluster) initdb(ctx context.Context, data string, more []string) error {
	if err := give(data, c.user); err != nil {
		return err
	}
	args := slices.Concat([]string{"--pgdata=" + data}, initdbOptions, more)
	cmd := exec.CommandContext(ctx, c.install.program("initdb"), args...) //nolint:gosec // the program that was resolved
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	// initdb takes away what it has made when it is told to end, also when the keeper is killed. It doesn't hear SIGINT while it
	// runs other programs.
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	if err := runTool(cmd, c.user, syscall.SIGTERM); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", context.Cause(ctx))
		}
		return fmt.Errorf("initdb: %w%s", err, quoteTail(output.String()))
	}
	return nil
}

// templateCache is one template: its directory data, and a tally that proves that the directory is whole.
type templateCache struct{ path string }

// use copies the template to data and reports whether it did. A template that turns out to be damaged, as after a power failure, is
// removed, and data is left empty.
func (t templateCache) use(ctx context.Context, data string, user *osUser) bool {
	text, err := os.ReadFile(filepath.Join(t.path, "tally"))
	if err != nil {
		return false
	}
	var want tally
	if err := json.Unmarshal(text, &want); err == nil {
		if got, err := copyTree(ctx, filepath.Join(t.path, "data"), data, user); err == nil && got == want {
			now := time.Now()
			_ = os.Chtimes(t.path, now, now)
			return true
		}
	}
	_ = emptyDir(data)
	if ctx.Err() == nil {
		_ = os.RemoveAll(t.path)
	}
	return false
}

// store makes data the template. It appears under its name when it is complete.
func (t templateCache) store(ctx context.Context, data string) {
	dir, err := os.MkdirTemp(filepath.Dir(t.path), "new-")
	if err != nil {
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		return
	}
	sum, err := copyTree(ctx, data, filepath.Join(dir, "data"), nil)
	if err != nil {
		return
	}
	text, err := json.Marshal(sum)
	if err != nil {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "tally"), text, 0o600); err != nil {
		return
	}
	if err := os.Rename(dir, t.path); err != nil {
		return
	}
	t.prune(time.Now())
}

// prune removes what nobody has used for long, and the remains of processes that were killed while storing.
func (t templateCache) prune(now time.Time) {
	entries, err := os.ReadDir(filepath.Dir(t.path))
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < templateLife {
			continue
		}
		if strings.HasPrefix(entry.Name(), "initdb-") || strings.HasPrefix(entry.Name(), "new-") {
			_ = os.RemoveAll(filepath.Join(filepath.Dir(t.path), entry.Name()))
		}
	}
}

// privateDir makes sure that dir is a directory of ours that gives others none of the permissions in forbidden, and makes it, but not
// its parents, when it doesn't exist.
func privateDir(dir string, forbidden os.FileMode) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return checkPrivate(dir, forbidden)
}

func checkPrivate(dir string, forbidden os.FileMode) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: remove it", dir)
	case !ownedByUs(info):
		return fmt.Errorf("%s belongs to another user: have it removed", dir)
	case info.Mode().Perm()&forbidden != 0 && runtime.GOOS != "windows":
		return fmt.Errorf("others can get into %s (mode %04o): chmod 700 it", dir, info.Mode().Perm())
	}
	return nil
}

// emptyDir removes what is in dir.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}
