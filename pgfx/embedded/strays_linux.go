package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// strays lists the processes of the server of a data directory: those that run a program called postgres and stand in that
// directory, as a postmaster and its children do all their life.
func strays(data string) []int {
	data, err := filepath.EvalSymlinks(data)
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
		at, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		if err != nil || at != data {
			continue
		}
		// A process that is ending has no program any more, but stands there until it has let go of its memory.
		runs, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err != nil || strings.Contains(filepath.Base(runs), "postgres") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freeSegment removes the System V shared memory segment of a server that was killed, unless somebody still uses it or it
// doesn't belong to the owner of the data directory.
func freeSegment(id, owner int) {
	if id < 0 {
		return
	}
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &info); err == nil && info.Nattch == 0 && int(info.Perm.Uid) == owner {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

// worksIn reports whether a process stands in a data directory. One that may not be looked at is believed to.
func worksIn(data string, pid int) bool {
	data, err := filepath.EvalSymlinks(data)
	if err != nil {
		return true
	}
	at, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return errors.Is(err, os.ErrPermission) || at == data
}
