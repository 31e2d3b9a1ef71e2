//go:build unix

package postgres

import (
	"os"
	"syscall"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

func terminate(process *os.Process) error { return process.Signal(syscall.SIGTERM) }

// credential makes a child run as user without the caller's supplementary groups.
func credential(user *access.User) *syscall.Credential {
	if user == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(user.UID), Gid: uint32(user.GID)} //nolint:gosec // ids from the system's user database
}
