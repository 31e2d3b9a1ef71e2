package pgfx

import (
	"context"
	"net"
	"time"
)

// TCP keep-alive for all connections: a vanished peer is detected after 30 s.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// dialer returns the dial function of all connections. Keep-alive ends a connection whose server has vanished while a
// statement runs. tcpUserTimeout limits how long sent data may stay unacknowledged; 0 leaves the kernel's limit.
func dialer(tcpUserTimeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount},
		Control:         setTCPUserTimeout(tcpUserTimeout),
	}
	return d.DialContext
}
