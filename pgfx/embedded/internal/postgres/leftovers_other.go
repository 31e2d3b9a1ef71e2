//go:build !linux

package postgres

import (
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// Processes returns the ids of the server processes of dataDir. Without /proc only the postmaster can be identified, by its
// command line. Its children exit on their own when it is gone.
func Processes(dataDir string) []int {
	file, err := ReadPIDFile(dataDir)
	if err != nil || runtime.GOOS == "windows" {
		return nil
	}
	line, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(file.PID)).Output() //nolint:gosec,noctx // the argument is a number; ps ends immediately
	if err != nil || !strings.Contains(string(line), "postgres") || !strings.Contains(string(line), dataDir) {
		return nil
	}
	return []int{file.PID}
}

// usesDirectory returns true: working directories of other processes can't be read here.
func usesDirectory(int, string) bool { return true }

// removeSharedMemory does nothing: there is no portable way to check that a segment is unused.
func removeSharedMemory(_, _ int) {}
