package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// The files of an entry; see the package documentation.
const (
	ElectionFile = "election"
	LeaseFile    = "lease"
	KeeperFile   = "keeper"
	StateFile    = "state"
)

// Entry identifies one shared server in the registry. It contains neither data nor sockets, so the server's user needs no
// access.
type Entry struct {
	// Dir is the registry directory.
	Dir string `json:"dir"`
	// Key is a hash of everything that affects the server.
	Key string `json:"key"`
}

// State is what a process needs to know about a server that another process has started.
type State struct {
	Spec Spec `json:"spec"`
	// PID is the process id of the postmaster.
	PID int `json:"pid"`
}

// NewEntry returns the entry of all processes of this user that need the server that s describes. tempDir is the location that
// the caller chose, or empty.
func NewEntry(s Spec, tempDir string) (Entry, error) {
	root := tempDir
	if root == "" {
		root = os.TempDir()
		// Unlike the location of the data, this must not depend on the space that is free at the moment.
		info, err := os.Stat(sharedMemory)
		if runtime.GOOS == "linux" && err == nil && info.IsDir() && access.CheckWritable(sharedMemory) == nil {
			root = sharedMemory
		}
	}
	var persistentDir string
	if s.Persistent {
		persistentDir = s.DataDir
	}
	identity, err := json.Marshal(struct {
		Protocol      string                `json:"protocol"`
		Installation  postgres.Installation `json:"installation"`
		User          *access.User          `json:"user"`
		Settings      map[string]string     `json:"settings"`
		TCP           bool                  `json:"tcp"`
		PersistentDir string                `json:"persistent_dir"`
		TempDir       string                `json:"temp_dir"`
	}{protocolVersion, s.Installation, s.User, s.Settings, s.TCP, persistentDir, tempDir})
	if err != nil {
		return Entry{}, fmt.Errorf("identify the shared server: %w", err)
	}
	sum := sha256.Sum256(identity)
	return Entry{Dir: registryDir(root), Key: hex.EncodeToString(sum[:8])}, nil
}

// registryDir returns the path of this user's registry in root.
func registryDir(root string) string {
	return filepath.Join(root, fmt.Sprintf("%sshared-%d", dirPrefix, max(os.Geteuid(), 0)))
}

// Path returns the path of one of the entry's files.
func (e Entry) Path(kind string) string { return filepath.Join(e.Dir, e.Key+"."+kind) }

// open opens one of the files. It creates the file and the registry if needed.
func (e Entry) open(kind string) (*os.File, error) {
	for {
		if err := access.MakePrivate(e.Dir, access.NoAccess); err != nil {
			return nil, err
		}
		file, err := os.OpenFile(e.Path(kind), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			// Another process has just removed the registry with its last entry.
			continue
		}
		return file, err
	}
}

// lock opens and locks one of the files. It waits for other processes until ctx ends.
func (e Entry) lock(ctx context.Context, kind string, exclusive bool) (*os.File, error) {
	for {
		file, err := e.open(kind)
		if err != nil {
			return nil, err
		}
		if err := filelock.Wait(ctx, file, exclusive); err != nil {
			filelock.Release(file)
			return nil, err
		}
		if filelock.IsCurrent(file) {
			return file, nil
		}
		filelock.Release(file)
	}
}

// hasKeeper reports whether a keeper is alive.
func (e Entry) hasKeeper() bool {
	file, err := os.Open(e.Path(KeeperFile))
	if err != nil {
		return false
	}
	defer filelock.Release(file)
	locked, err := filelock.Try(file, false)
	return err == nil && !locked
}

func (e Entry) readState() (State, error) {
	var s State
	text, err := os.ReadFile(e.Path(StateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", e.Path(StateFile), err)
	}
	return s, nil
}

// publish writes the state file atomically.
func (e Entry) publish(s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(e.Path(StateFile)+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(e.Path(StateFile)+".new", e.Path(StateFile))
}

// remove removes the entry's files, and the registry with the last entry. The caller must hold the election lock.
func (e Entry) remove() {
	for _, kind := range []string{StateFile + ".new", StateFile, LeaseFile, KeeperFile, ElectionFile} {
		_ = os.Remove(e.Path(kind))
	}
	_ = os.Remove(e.Dir)
}

// sweepRegistry removes the entries whose keepers were killed and that no process uses.
func sweepRegistry(dir string) {
	if access.CheckPrivate(dir, access.NoAccess) != nil {
		return
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, file := range files {
		if key, ok := strings.CutSuffix(file.Name(), "."+ElectionFile); ok {
			Entry{Dir: dir, Key: key}.sweep()
		}
	}
}

// sweep removes the entry if none of its locks is held.
func (e Entry) sweep() {
	var locked []*os.File
	defer func() {
		for _, file := range locked {
			filelock.Release(file)
		}
	}()
	for _, kind := range []string{ElectionFile, KeeperFile, LeaseFile} {
		file, err := os.OpenFile(e.Path(kind), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return
		}
		locked = append(locked, file)
		if free, err := filelock.Try(file, true); err != nil || !free || !filelock.IsCurrent(file) {
			return
		}
	}
	e.remove()
}
