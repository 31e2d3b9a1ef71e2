package embedded

import (
	"bytes"
	"fmt"
	"os"
)

// hasEnded reports whether a process has ended, also while nobody has waited for it yet (proc(5), /proc/pid/stat).
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !processAlive(pid)
	}
	_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return bytes.HasPrefix(state, []byte("Z")) || bytes.HasPrefix(state, []byte("X"))
}
