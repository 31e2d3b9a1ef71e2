package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// The content of a server directory. It belongs to the keeper's user, socketDir and TemporaryDataDir to the server's user.
func socketDir(dir string) string  { return filepath.Join(dir, "s") } // short: the length of a socket path is limited
func lockFile(dir string) string   { return filepath.Join(dir, "lock") }
func hbaFile(dir string) string    { return filepath.Join(dir, "pg_hba.conf") }
func recordFile(dir string) string { return filepath.Join(dir, "server.json") }

// TemporaryDataDir returns the data directory of a temporary server.
func TemporaryDataDir(dir string) string { return filepath.Join(dir, "data") }

// LogFile returns the log file of a server.
func LogFile(dir string) string { return filepath.Join(dir, "log") }

// hba allows all users on the socket, which is in a private directory, and requires a password elsewhere.
//
//nolint:dupword // the columns are type, database, user, address, method
const hba = `
local all         all     trust
local replication all     trust
host  all         all all scram-sha-256
host  replication all all scram-sha-256
`

// record is the content of recordFile: what a sweep needs to know about a server whose keeper is gone.
type record struct {
	DataDir string `json:"data_dir"`
}

// serverDir is a server directory, locked by its keeper.
type serverDir struct {
	path string
	lock *os.File
}

// createServerDir creates and locks the directory of the server that s describes, with everything in it except the data.
func createServerDir(s Spec) (dir *serverDir, err error) {
	err = os.Mkdir(s.Dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		// The keeper of an earlier start was killed.
		sweepServerDir(s.Dir)
		err = os.Mkdir(s.Dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("create the server directory: %w", err)
	}
	dir = &serverDir{path: s.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("create the server directory: %w", err), dir.remove())
		}
	}()
	// The file gets its name after it is locked, so an unlocked file always means that the keeper is gone.
	dir.lock, err = os.OpenFile(lockFile(s.Dir)+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return dir, err
	}
	if _, err := filelock.Try(dir.lock, true); err != nil {
		return dir, err
	}
	if err := os.Rename(lockFile(s.Dir)+".new", lockFile(s.Dir)); err != nil {
		return dir, err
	}
	text, err := json.Marshal(record{DataDir: s.DataDir})
	if err != nil {
		return dir, err
	}
	if err := os.WriteFile(recordFile(s.Dir), text, 0o600); err != nil {
		return dir, err
	}
	if err := os.WriteFile(hbaFile(s.Dir), []byte(hba), 0o600); err != nil {
		return dir, err
	}
	if err := os.Mkdir(socketDir(s.Dir), 0o700); err != nil {
		return dir, err
	}
	if s.User == nil {
		return dir, nil
	}
	// The server's user enters the directory to reach its own two subdirectories, and reads pg_hba.conf.
	return dir, errors.Join(
		access.Chown(socketDir(s.Dir), s.User),
		os.Chown(hbaFile(s.Dir), -1, s.User.GID),
		os.Chmod(hbaFile(s.Dir), 0o640), //nolint:gosec // readable for the server's group
		os.Chmod(s.Dir, 0o711),          //nolint:gosec // the server's user may enter but not list it
	)
}

// remove removes the directory and releases its lock.
func (d *serverDir) remove() error {
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		filelock.Release(d.lock)
	}
	return err
}
