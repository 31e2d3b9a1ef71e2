package keeper

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

const (
	// SocketPort is the port of servers without TCP, where it is only part of the socket's name.
	SocketPort = 5432

	loopback = "127.0.0.1"
)

// URL returns the connection URL for users of the server, including the password. It sets every parameter that an environment
// variable such as PGPORT or PGSSLMODE could otherwise change.
func (s Spec) URL() string {
	if !s.TCP {
		return s.socketURL()
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(postgres.Superuser, string(s.Password)),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.Port)),
		Path:     "/" + postgres.Superuser,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// socketURL returns the connection URL of the Unix socket, which requires no password.
func (s Spec) socketURL() string {
	// libpq and pgx don't decode + as a space.
	host := strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(socketDir(s.Dir)))
	query := fmt.Sprintf("host=%s&port=%d&sslmode=disable", host, s.Port)
	u := url.URL{Scheme: "postgres", User: url.User(postgres.Superuser), Path: "/" + postgres.Superuser, RawQuery: query}
	return u.String()
}
