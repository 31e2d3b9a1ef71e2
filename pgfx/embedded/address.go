package embedded

import (
	"context"
	"fmt"
	"net"
	"net/url"
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

// freePort asks the system for a port that nobody listens on. Somebody may take it before the server does.
func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, "0"))
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
