//go:build unix

package embedded

import (
	"os"
	"syscall"
)

func terminate(process *os.Process) error { return process.Signal(syscall.SIGTERM) }

// credential makes a child run as user, without the groups of the caller.
func credential(user *osUser) *syscall.Credential {
	if user == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(user.UID), Gid: uint32(user.GID)} //nolint:gosec // numbers that the system gave
}
