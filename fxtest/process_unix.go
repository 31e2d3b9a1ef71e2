//go:build unix

package fxtest

import (
	"errors"
	"syscall"
)

// processAlive reports whether a process exists on this host. EPERM means that another user owns it.
func processAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
