package postgres

import (
	"os"
	"syscall"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
)

func terminate(process *os.Process) error { return process.Kill() }

func childAttr(*access.User, syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}
