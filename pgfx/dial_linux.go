package pgfx

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged sets TCP_USER_TIMEOUT (tcp(7)); without it the kernel retries for about a quarter of an hour.
func limitUnacknowledged(timeout time.Duration) func(network, address string, raw syscall.RawConn) error {
	if timeout <= 0 {
		return nil
	}
	return func(network, _ string, raw syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		var failed error
		if err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
		}); err != nil {
			return err //nolint:wrapcheck // net names the operation
		}
		return failed
	}
}
