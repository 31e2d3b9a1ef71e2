//go:build !linux

package postgres

// HasEnded reports whether a process has ended.
func HasEnded(pid int) bool { return !processExists(pid) }
