//go:build !unix

package testredis

import (
	"os"
	"syscall"
)

// Other systems have no such signals: sending them fails.
var signalFreeze, signalThaw = os.Interrupt, os.Interrupt

func detached() *syscall.SysProcAttr { return nil }
