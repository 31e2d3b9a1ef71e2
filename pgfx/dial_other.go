//go:build !linux

package pgfx

import (
	"syscall"
	"time"
)

// setTCPUserTimeout returns nil on systems without TCP_USER_TIMEOUT. Only keep-alive applies there.
func setTCPUserTimeout(time.Duration) func(network, address string, raw syscall.RawConn) error {
	return nil
}
