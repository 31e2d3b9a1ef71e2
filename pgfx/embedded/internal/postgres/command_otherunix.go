//go:build unix && !linux

package postgres

import (
	"syscall"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// childAttr makes a child run as user. Parent-death signals exist on Linux only: elsewhere, the next start of a server kills
// leftovers.
func childAttr(user *access.User, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(user)}
}
