package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

const claimRetryInterval = 5 * time.Millisecond

// ClaimPersistent prepares a persistent data directory for a server. It creates the directory and its content if needed. It
// returns an error if this installation or user can't run the directory or if another server does. The directory stays locked
// until the returned file is released with [filelock.Release].
func (i Initializer) ClaimPersistent(ctx context.Context, dataDir string) (claim *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(dataDir), 0o755); err != nil { //nolint:gosec // the server's user must be able to enter the parents
		return nil, err
	}
	if err := os.Mkdir(dataDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := access.CheckReachable(filepath.Dir(dataDir), i.User); err != nil {
		return nil, fmt.Errorf("data directory %s: %w: run chmod o+x, or choose another directory", dataDir, err)
	}
	claim, err = os.Open(filepath.Clean(dataDir))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			filelock.Release(claim)
			claim = nil
		}
	}()
	if err := lockDataDir(ctx, dataDir, claim); err != nil {
		return nil, err
	}
	entries, err := claim.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return claim, i.createPersistent(ctx, dataDir)
	}
	return claim, i.checkExisting(dataDir)
}

// lockDataDir locks a data directory. A sweep holds the lock for a moment only; a server that holds it is detected by its pid
// file.
func lockDataDir(ctx context.Context, dataDir string, claim *os.File) error {
	limit, cancel := context.WithTimeout(ctx, KillTimeout)
	defer cancel()
	ticker := time.NewTicker(claimRetryInterval)
	defer ticker.Stop()
	for {
		// On file systems without locks, the pid file must suffice.
		if locked, err := filelock.Try(claim, true); err != nil || locked {
			return nil
		}
		if pid, running := runningServer(dataDir); running {
			return inUseError(dataDir, pid)
		}
		select {
		case <-limit.Done():
			return fmt.Errorf("data directory %s is locked by another process that starts or stops a server: "+
				"wait for it, or choose another directory", dataDir)
		case <-ticker.C:
		}
	}
}

// checkExisting returns an error if an existing, locked data directory can't be used.
func (i Initializer) checkExisting(dataDir string) error {
	text, err := os.ReadFile(filepath.Join(filepath.Clean(dataDir), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory %s is neither empty nor a PostgreSQL data directory: choose another directory", dataDir)
	}
	if err != nil {
		return err
	}
	if major := strings.TrimSpace(string(text)); major != strconv.Itoa(i.Installation.Major) {
		return fmt.Errorf("data directory %s was created by PostgreSQL %s, but the server is PostgreSQL %d (%s): choose another directory, set %s to the binaries of version %s, or migrate the data with pg_upgrade",
			dataDir, major, i.Installation.Major, i.Installation.BinDir, EnvBin, major)
	}
	if err := checkNotRunning(dataDir); err != nil {
		return err
	}
	return i.checkOwner(dataDir)
}

// checkNotRunning returns an error if a server runs in the locked data directory. It removes a stale pid file. PostgreSQL only
// checks whether a process with that id exists, so a zombie or an unrelated process would prevent the start.
func checkNotRunning(dataDir string) error {
	pid, running := runningServer(dataDir)
	switch {
	case running:
		return inUseError(dataDir, pid)
	case pid != 0:
		return os.Remove(filepath.Join(dataDir, pidFileName))
	default:
		return nil
	}
}

// runningServer returns the process that the data directory's pid file names, or 0 if there is no such process. running reports
// whether a server runs in the directory.
func runningServer(dataDir string) (pid int, running bool) {
	file, err := ReadPIDFile(dataDir)
	if err != nil || !processExists(file.PID) {
		return 0, false
	}
	return file.PID, usesDirectory(file.PID, dataDir) || len(Processes(dataDir)) > 0
}

func inUseError(dataDir string, pid int) error {
	return fmt.Errorf("data directory %s is used by a running server (process %d, from its %s): "+
		"stop it, or choose another directory", dataDir, pid, pidFileName)
}

func (i Initializer) checkOwner(dataDir string) error {
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	owner, known := access.Owner(info)
	want := os.Geteuid()
	if i.User != nil {
		want = i.User.UID
	}
	if !known || owner == want {
		return nil
	}
	name := strconv.Itoa(owner)
	if found, err := user.LookupId(name); err == nil {
		name = found.Username
	}
	if i.User != nil {
		return fmt.Errorf("data directory %s belongs to user %s, but the server runs as %s: set %s=%s",
			dataDir, name, i.User.Name, access.EnvUser, name)
	}
	return fmt.Errorf("data directory %s belongs to user %s: run as that user, or choose another directory", dataDir, name)
}
