package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// creationLimit is the age from which a server directory without a lock file can't be one that is just being created.
const creationLimit = time.Minute

// sweepLocation kills the servers and removes the directories in dir that killed keepers of this user have left. The next sweep
// retries after a failure.
func sweepLocation(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	prefix := ownDirPrefix()
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			sweepServerDir(filepath.Join(dir, entry.Name()))
		}
	}
}

// sweepServerDir removes a server directory, and its server, if the keeper is gone.
func sweepServerDir(dir string) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !access.IsOwn(info) {
		return
	}
	lock, err := os.OpenFile(filepath.Clean(lockFile(dir)), os.O_RDWR, 0)
	if err != nil {
		// The directory is being created, or its keeper was killed while it created it.
		if errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > creationLimit {
			_ = os.RemoveAll(dir)
		}
		return
	}
	defer filelock.Release(lock)
	if locked, err := filelock.Try(lock, true); err != nil || !locked {
		return
	}
	var server record
	if text, err := os.ReadFile(filepath.Clean(recordFile(dir))); err == nil && json.Unmarshal(text, &server) == nil && server.DataDir != "" {
		killOrphan(dir, server.DataDir)
	}
	_ = os.RemoveAll(dir)
}

// killOrphan kills the server that outlived the keeper of dir. Another server may use a persistent data directory by now:
// either its keeper has locked the directory, or its socket is elsewhere.
func killOrphan(dir, dataDir string) {
	claim, err := os.Open(filepath.Clean(dataDir))
	if err != nil {
		return
	}
	defer filelock.Release(claim)
	if locked, err := filelock.Try(claim, true); err == nil && !locked {
		return
	}
	if file, err := postgres.ReadPIDFile(dataDir); err == nil && file.SocketDir == socketDir(dir) {
		postgres.KillLeftovers(dataDir)
	}
}
