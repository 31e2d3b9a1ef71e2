//go:build unix

package embedded

import (
	"errors"
	"syscall"
)

// signalServer asks the postmaster to shut down.
func signalServer(p *postgres, how shutdown) error {
	if how == fast {
		return p.cmd.Process.Signal(syscall.SIGINT)
	}
	return p.cmd.Process.Signal(syscall.SIGQUIT)
}

// processAlive reports whether a process with this number exists.
func processAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func killProcess(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
