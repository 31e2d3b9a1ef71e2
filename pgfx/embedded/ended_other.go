//go:build !linux

package embedded

// hasEnded reports whether a process has ended.
func hasEnded(pid int) bool { return !processAlive(pid) }
