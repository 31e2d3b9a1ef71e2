//go:build !linux

package pgfx

import (
	"net"
	"time"
)

// sinceReceived returns 0: nobody can tell how long ago something last arrived.
func sinceReceived(net.Conn) time.Duration { return 0 }
