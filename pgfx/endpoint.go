package pgfx

import (
	"fmt"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Endpoint is the address of a server that another module runs, such as pgfx/embedded or fxtest. It applies if a [Config] has
// no address. The zero Endpoint names no server. An Endpoint prints with its password masked.
type Endpoint struct {
	// URL is a PostgreSQL connection URL, for example postgres://app@/app?host=/run/postgresql.
	URL string
	// Override makes the endpoint replace the address of the Config. Test kits set it, so that a test never uses the server
	// in the application's configuration. Default: false.
	Override bool
}

// IsZero reports whether e names no server.
func (e Endpoint) IsZero() bool { return e.URL == "" }

// String returns the URL with its password masked.
func (e Endpoint) String() string { return redact.ConnString(e.URL) }

// Format implements fmt.Formatter. It prints e.String() for every verb, so %#v and %+v show no secrets either.
func (e Endpoint) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, e.String()) }

// MarshalText implements encoding.TextMarshaler, for JSON, YAML and log encoders. It masks the password.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }
