package postgres

import (
	"syscall"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

// childAttr makes a child run as user and receive parentDeath when the thread that started it ends.
func childAttr(user *access.User, parentDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(user), Pdeathsig: parentDeath}
}
