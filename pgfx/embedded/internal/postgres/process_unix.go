//go:build unix

package postgres

import (
	"errors"
	"syscall"
)

// signalShutdown requests a shutdown of the server in the given mode.
func signalShutdown(s *Server, mode ShutdownMode) error {
	if mode == Fast {
		return s.cmd.Process.Signal(syscall.SIGINT)
	}
	return s.cmd.Process.Signal(syscall.SIGQUIT)
}

// processExists reports whether a process with this id exists.
func processExists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func killProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
