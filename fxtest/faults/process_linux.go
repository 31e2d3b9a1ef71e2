package faults

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// processState returns the state and the parent of a process (proc(5), /proc/pid/stat), or 0 if the process does not exist.
func processState(pid int) (state byte, parent int) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	// The fields follow the name in parentheses, which may contain any character.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, 0
	}
	parent, err = strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}

// children returns the running child processes of a process.
func children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if state, parent := processState(child); parent == pid && state != 'Z' {
			found = append(found, child)
		}
	}
	return found
}

// stopped reports whether a process is stopped or has exited.
func stopped(pid int) bool {
	state, _ := processState(pid)
	return state == 'T' || state == 'Z' || state == 0
}
