package keeper

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

const (
	// sharedMemory is Linux's in-memory file system, where a server never waits for a disk.
	sharedMemory = "/dev/shm"
	// sharedMemoryNeeded is the free space in bytes that sharedMemory must have. Containers often limit it to 64 MB.
	sharedMemoryNeeded = 512 << 20
)

// Locations are the directories in which a server directory may be created, in order of preference.
type Locations struct {
	candidates []string
	user       *access.User
	// memory is the candidate that needs memoryNeeded bytes of free space.
	memory       string
	memoryNeeded uint64
}

// NewLocations returns the locations for a server that runs as user: tempDir, or, if it is empty, /dev/shm and the temp
// directory.
func NewLocations(tempDir string, user *access.User) Locations {
	if tempDir != "" {
		return Locations{candidates: []string{tempDir}, user: user}
	}
	l := Locations{candidates: []string{os.TempDir()}, user: user}
	if runtime.GOOS == "linux" {
		l.memory, l.memoryNeeded = sharedMemory, sharedMemoryNeeded
		l.candidates = slices.Insert(l.candidates, 0, sharedMemory)
	}
	if runtime.GOOS != "windows" && !slices.Contains(l.candidates, "/tmp") {
		// The path of the temp directory may be too long for a socket: on macOS it has 49 bytes.
		l.candidates = append(l.candidates, "/tmp")
	}
	return l
}

// Dirs returns all candidates.
func (l Locations) Dirs() []string { return l.candidates }

// NewServerDir returns the path for a new server directory in the first usable location. It creates nothing.
func (l Locations) NewServerDir(port int) (string, error) {
	var reasons []string
	for _, dir := range l.candidates {
		path := filepath.Join(dir, newDirName())
		if err := l.check(dir, path, port); err != nil {
			reasons = append(reasons, fmt.Sprintf("%s: %s", dir, err))
			continue
		}
		return path, nil
	}
	who := "you can write to and the server"
	if l.user != nil {
		who = "you can write to and user " + l.user.Name
	}
	return "", fmt.Errorf("no usable location for the server directory (%s): set TMPDIR or use the option TempDir; choose a short path that %s can enter",
		strings.Join(reasons, "; "), who)
}

// check returns an error if the server directory path can't be created in dir.
func (l Locations) check(dir, path string, port int) error {
	info, err := os.Stat(dir)
	if err != nil {
		return errors.Unwrap(err)
	}
	if !info.IsDir() {
		return errors.New("not a directory")
	}
	if strings.ContainsRune(dir, ',') {
		return errors.New("contains a comma, which separates hosts in a connection URL")
	}
	if err := access.CheckWritable(dir); err != nil {
		return fmt.Errorf("not writable: %w", err)
	}
	if dir == l.memory {
		free, err := access.FreeBytes(dir)
		if err != nil {
			return err
		}
		if free < l.memoryNeeded {
			return fmt.Errorf("only %d MB free", free>>20)
		}
	}
	if err := access.CheckReachable(dir, l.user); err != nil {
		return err
	}
	return checkSocketPath(path, port)
}

// checkSocketPath returns an error if the path of the server's socket is too long for the operating system. The limit without
// the final zero byte is 107 bytes on Linux and 103 elsewhere (unix(7)).
func checkSocketPath(dir string, port int) error {
	path := filepath.Join(socketDir(dir), fmt.Sprintf(".s.PGSQL.%d", port))
	limit := 103
	if runtime.GOOS == "linux" {
		limit = 107
	}
	if len(path) > limit {
		return fmt.Errorf("the socket path %s would have %d bytes, more than the %d that the system allows", path, len(path), limit)
	}
	return nil
}

// newDirName returns a name for a server directory of this user. It is random, so that no other user can create it first.
func newDirName() string { return ownDirPrefix() + strings.ToLower(rand.Text()[:12]) }

// ownDirPrefix starts the names of this user's server directories.
func ownDirPrefix() string { return fmt.Sprintf("%s%d-", dirPrefix, max(os.Geteuid(), 0)) }
