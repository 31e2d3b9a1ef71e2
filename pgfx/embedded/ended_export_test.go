package embedded

// HasEnded reports whether a process has ended.
func HasEnded(pid int) bool { return hasEnded(pid) }
