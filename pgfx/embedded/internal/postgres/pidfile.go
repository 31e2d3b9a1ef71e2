package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const pidFileName = "postmaster.pid"

// PIDFile is the content of postmaster.pid, which a server writes to its data directory.
type PIDFile struct {
	PID int
	// Status is "ready" once the server accepts connections.
	Status string
	// SocketDir is the directory of the server's Unix socket.
	SocketDir string
	// SharedMemoryID identifies the server's System V shared memory segment. It is -1 if there is none.
	SharedMemoryID int
}

// ReadPIDFile reads dataDir's postmaster.pid. Its lines are: process id, data directory, start time, port, socket directory,
// listen address, shared memory, status (src/include/utils/pidfile.h).
func ReadPIDFile(dataDir string) (PIDFile, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Clean(dataDir), pidFileName))
	if err != nil {
		return PIDFile{}, err
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return PIDFile{}, fmt.Errorf("%s: %w", pidFileName, err)
	}
	file := PIDFile{PID: pid, SharedMemoryID: -1}
	if len(lines) > 4 {
		file.SocketDir = strings.TrimSpace(lines[4])
	}
	if len(lines) > 6 {
		if fields := strings.Fields(lines[6]); len(fields) == 2 {
			if id, err := strconv.Atoi(fields[1]); err == nil {
				file.SharedMemoryID = id
			}
		}
	}
	if len(lines) > 7 {
		file.Status = strings.TrimSpace(lines[7])
	}
	return file, nil
}
