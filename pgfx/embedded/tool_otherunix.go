//go:build unix && !linux

package embedded

import "syscall"

// childAttr makes a child run as user. There is no signal at the parent's death here: the next start sweeps.
func childAttr(user *osUser, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(user)}
}
