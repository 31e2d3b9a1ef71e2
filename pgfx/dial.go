package pgfx

import (
	"context"
	"net"
	"time"
)

// The kernel asks an idle connection that often whether its other end is still there.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// dialer returns how connections are dialed: with keep-alive, so that a connection whose server has vanished ends while
// its statement runs, and with a limit on data that nobody acknowledges.
func dialer(unacknowledged time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount},
		Control:         limitUnacknowledged(unacknowledged),
	}
	return d.DialContext
}
