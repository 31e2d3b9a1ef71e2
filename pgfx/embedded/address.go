package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// socketPort is the port of servers without TCP: it is only part of the socket's name.
const socketPort = 5432

// url returns the address of the server for its users. All that an environment variable such as PGPORT or PGSSLMODE would
// fill in is stated.
func (s spec) url() string {
	if !s.TCP {
		return s.adminURL()
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.Password),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.Port)),
		Path:     "/" + superuser,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// adminURL returns the address of the server's socket, where nobody is asked for a password.
func (s spec) adminURL() string {
	// libpq and pgx don't read + as a space.
	host := strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(socketDir(s.Dir)))
	query := fmt.Sprintf("host=%s&port=%d&sslmode=disable", host, s.Port)
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + superuser, RawQuery: query}
	return u.String()
}

// firstPort is the lowest port for a server: below it there are many that services have by custom.
const firstPort = 10_000

// freePort finds a port that nobody listens on. Somebody may take it before the server does, or while the server is down: it is
// none that the system gives to whoever asks for any port or dials out, where the system tells which those are.
func freePort(ctx context.Context) (int, error) {
	const tries = 20
	if end := firstGivenAway(); end > firstPort {
		for range tries {
			if port, err := listenOnce(ctx, firstPort+rand.IntN(end-firstPort)); err == nil {
				return port, nil
			}
		}
	}
	return listenOnce(ctx, 0)
}

// firstGivenAway returns the first port that Linux gives away by itself, 0 when it isn't known (ip(7), ip_local_port_range).
func firstGivenAway() int {
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

// listenOnce listens on a port, 0 for any, to see whether somebody else does, and returns it.
func listenOnce(ctx context.Context, port int) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("embedded: find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("embedded: find a free port: the system answered %s", listener.Addr())
	}
	return address.Port, nil
}
