package postgres

import (
	"bytes"
	"fmt"
	"os"
)

// HasEnded reports whether a process has ended. A zombie counts as ended (proc(5), /proc/pid/stat).
func HasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !processExists(pid)
	}
	_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return bytes.HasPrefix(state, []byte("Z")) || bytes.HasPrefix(state, []byte("X"))
}
