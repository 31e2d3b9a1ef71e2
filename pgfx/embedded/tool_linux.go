package embedded

import "syscall"

// childAttr makes a child run as user, and receive onDeath when the thread that started it ends.
func childAttr(user *osUser, onDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(user), Pdeathsig: onDeath}
}
