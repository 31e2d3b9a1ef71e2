//go:build !linux

package pgfx

import (
	"syscall"
	"time"
)

// limitUnacknowledged does nothing where the system has no such option; keep-alive is what remains.
func limitUnacknowledged(time.Duration) func(network, address string, raw syscall.RawConn) error {
	return nil
}
