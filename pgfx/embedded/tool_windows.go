package embedded

import (
	"os"
	"syscall"
)

func terminate(process *os.Process) error { return process.Kill() }

func childAttr(*osUser, syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}
