package keeper

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// lowestPort is the lowest port for a server. Many lower ones are in customary use by other services.
const lowestPort = 10_000

// FreePort returns a TCP port that no process listens on. On Linux it is below the ephemeral range: the system doesn't assign
// it to another socket while the server is down.
func FreePort() (int, error) {
	const attempts = 20
	if end := firstEphemeralPort(); end > lowestPort {
		for range attempts {
			if port, err := listenOnce(lowestPort + rand.IntN(end-lowestPort)); err == nil {
				return port, nil
			}
		}
	}
	return listenOnce(0)
}

// firstEphemeralPort returns the first port that Linux assigns on its own, or 0 if unknown (ip(7), ip_local_port_range).
func firstEphemeralPort() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return 0
	}
	return first
}

// listenOnce opens and closes a listener on port, or on any port if it is 0, and returns the port.
func listenOnce(port int) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: unexpected address %s", listener.Addr())
	}
	return address.Port, nil
}
