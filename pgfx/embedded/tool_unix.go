//go:build unix

package embedded

import (
	"os"
	"syscall"
)

func interrupt(process *os.Process) error { return process.Signal(syscall.SIGINT) }

// credential makes a child run as user, without the groups of the caller.
func credential(user *osUser) *syscall.Credential {
	if user == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(user.UID), Gid: uint32(user.GID)} //nolint:gosec // numbers that the system gave
}
