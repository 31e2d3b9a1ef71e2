//go:build !linux

package poolstats

import (
	"net"
	"time"
)

// sinceReceived returns 0: the system does not report when data last arrived.
func sinceReceived(net.Conn) time.Duration { return 0 }

// RoundTrip returns 0, because the round-trip time of a connection is unknown on this system.
func RoundTrip(net.Conn) time.Duration { return 0 }
