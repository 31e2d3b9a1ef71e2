package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	// sharedMemory is Linux's memory file system: a server there never waits for a disk.
	sharedMemory = "/dev/shm"
	// roomNeeded is what must be free on /dev/shm for a server to be put there: containers often give it 64 MB.
	roomNeeded = 512 << 20
	// prefix begins the names of all directories of ours; the number of the owner follows.
	prefix = "rdsfx-"
)

// room is where the directories of servers may be made.
type room struct {
	candidates []string
	user       *osUser
	// memory is the memory file system, and only used when it has memoryNeeded bytes free.
	memory       string
	memoryNeeded uint64
}

// newRoom lists the candidates. A directory the caller chose is the only one.
func newRoom(chosen string, user *osUser) room {
	if chosen != "" {
		return room{candidates: []string{chosen}, user: user}
	}
	r := room{candidates: []string{os.TempDir()}, user: user}
	if runtime.GOOS == "linux" {
		r.memory, r.memoryNeeded = sharedMemory, roomNeeded
		r.candidates = slices.Insert(r.candidates, 0, sharedMemory)
	}
	if runtime.GOOS != "windows" && !slices.Contains(r.candidates, "/tmp") {
		// The temp directory of macOS has a name of 49 bytes, TMPDIR may have any.
		r.candidates = append(r.candidates, "/tmp")
	}
	return r
}

// pick returns the first candidate in which a server's directory can be made. It only looks.
func (r room) pick(port int) (string, error) {
	var reasons []string
	for _, dir := range r.candidates {
		if err := r.check(dir, port); err != nil {
			reasons = append(reasons, fmt.Sprintf("%s: %s", dir, err))
			continue
		}
		return dir, nil
	}
	return "", fmt.Errorf("embedded: no place for the server's directory (%s): set TMPDIR, or use the option TempDir, to a short path that %s can reach",
		strings.Join(reasons, "; "), r.who())
}

func (r room) who() string {
	if r.user == nil {
		return "you can write to and the server"
	}
	return "you can write to and the user " + r.user.Name
}

func (r room) check(dir string, port int) error {
	info, err := os.Stat(dir)
	if err != nil {
		return errors.Unwrap(err)
	}
	if !info.IsDir() {
		return errors.New("not a directory")
	}
	if strings.ContainsRune(dir, ',') {
		return errors.New("a connection URL takes the comma for the end of the socket's directory")
	}
	if err := writable(dir); err != nil {
		return fmt.Errorf("not writable: %w", err)
	}
	if dir == r.memory {
		free, err := freeBytes(dir)
		if err != nil {
			return err
		}
		if free < r.memoryNeeded {
			return fmt.Errorf("only %d MB free", free>>20)
		}
	}
	if err := reachable(dir, r.user); err != nil {
		return err
	}
	return socketFits(filepath.Join(dir, newName(os.Geteuid())), port)
}

// socketFits reports whether a server whose directory is dir can open its socket: the path of a Unix socket is limited by the
// operating system (unix(7): 108 bytes on Linux, 104 elsewhere, with the final zero byte).
func socketFits(dir string, port int) error {
	path := filepath.Join(socketDir(dir), fmt.Sprintf(".s.PGSQL.%d", port))
	limit := 103
	if runtime.GOOS == "linux" {
		limit = 107
	}
	if len(path) > limit {
		return fmt.Errorf("the socket's path %s would have %d bytes, more than the %d that the system allows", path, len(path), limit)
	}
	return nil
}

// newName makes the name of a server's directory: nobody can guess it and make the directory first.
func newName(euid int) string {
	return fmt.Sprintf("%s%d-%s", prefix, max(euid, 0), strings.ToLower(rand.Text()[:12]))
}

// What a server's directory holds. It belongs to the caller, the two directories in it to the server's user.
func socketDir(dir string) string   { return filepath.Join(dir, "s") }
func scratchData(dir string) string { return filepath.Join(dir, "data") }
func lockFile(dir string) string    { return filepath.Join(dir, "lock") }
func hbaFile(dir string) string     { return filepath.Join(dir, "hba") }
func noteFile(dir string) string    { return filepath.Join(dir, "note") }
func logFile(dir string) string     { return filepath.Join(dir, "log") }
