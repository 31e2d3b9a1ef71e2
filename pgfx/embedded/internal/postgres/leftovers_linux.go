package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Processes returns the ids of the server processes of dataDir. A postmaster and its children run a program called postgres in
// the working directory dataDir.
func Processes(dataDir string) []int {
	dataDir, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		if err != nil || cwd != dataDir {
			continue
		}
		// A process that is exiting has no program any more, but keeps its working directory until its memory is freed.
		program, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err != nil || strings.Contains(filepath.Base(program), "postgres") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// usesDirectory reports whether dataDir is the working directory of a process. If that can't be read, it returns true.
func usesDirectory(pid int, dataDir string) bool {
	dataDir, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return true
	}
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return errors.Is(err, os.ErrPermission) || cwd == dataDir
}

// removeSharedMemory removes the System V shared memory segment of a killed server. It keeps a segment that a process is
// attached to or that doesn't belong to the user id owner.
func removeSharedMemory(id, owner int) {
	if id < 0 {
		return
	}
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &info); err == nil && info.Nattch == 0 && int(info.Perm.Uid) == owner {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}
