package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// Superuser is the name of the superuser and of the default database of every data directory that this package creates.
const Superuser = "postgres"

// initdbOptions apply to every data directory that this package creates.
var initdbOptions = []string{"--username=" + Superuser, "--encoding=UTF8", "--locale=C", "--auth=trust"}

// temporaryOptions make initdb fast at the price of durability. Each server starts with one WAL segment. With PostgreSQL's
// default of 16 MB it would be more than 50 % of the template.
var temporaryOptions = []string{"--no-sync", "--wal-segsize=4"}

// Initializer creates data directories.
type Initializer struct {
	Installation Installation
	// User owns the data directory.
	User *access.User
	// CacheDirs are the directories that may hold the template, in order of preference.
	CacheDirs []string
}

// CacheDirs returns the default directories for templates: the user's cache directory, then a private one in the temp
// directory.
func CacheDirs() []string {
	var dirs []string
	if dir, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(dir, "rdsfx"))
	}
	return append(dirs, filepath.Join(os.TempDir(), fmt.Sprintf("rdsfx-cache-%d", max(os.Geteuid(), 0))))
}

// CreateTemporary fills the empty directory dataDir with a data directory whose durability doesn't matter. It copies the
// template, and creates the template first if there is none. An unusable cache directory only costs time.
func (i Initializer) CreateTemporary(ctx context.Context, dataDir string) error {
	for _, dir := range i.CacheDirs {
		if os.MkdirAll(filepath.Dir(dir), 0o700) != nil || access.MakePrivate(dir, access.NoWrite) != nil {
			continue
		}
		done, err := i.createFromCache(ctx, dataDir, template{path: filepath.Join(dir, templatePrefix+i.templateKey())})
		if done || err != nil {
			return err
		}
	}
	return i.initdb(ctx, dataDir, temporaryOptions)
}

// createPersistent fills the empty directory dataDir with a durable data directory. If it fails, dataDir is left empty.
func (i Initializer) createPersistent(ctx context.Context, dataDir string) error {
	if err := i.initdb(ctx, dataDir, nil); err != nil {
		// The partial output of a killed initdb would pass for a data directory.
		return errors.Join(err, removeContent(dataDir))
	}
	return nil
}

// initdb runs initdb on the empty directory dataDir as the server's user.
func (i Initializer) initdb(ctx context.Context, dataDir string, options []string) error {
	if err := access.Chown(dataDir, i.User); err != nil {
		return err
	}
	args := slices.Concat([]string{"--pgdata=" + dataDir}, initdbOptions, options)
	cmd := exec.CommandContext(ctx, i.Installation.Binary("initdb"), args...) //nolint:gosec // the binary of the installation
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	// On SIGTERM, initdb removes what it has created. It ignores SIGINT while it runs other programs.
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	if err := run(cmd, i.User, syscall.SIGTERM); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", context.Cause(ctx))
		}
		return fmt.Errorf("initdb: %w%s", err, QuoteTail(output.String()))
	}
	return nil
}

// removeContent removes everything in dir.
func removeContent(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}
