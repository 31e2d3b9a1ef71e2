package pgfx

import (
	"encoding/json"
	"fmt"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Endpoint is the address of a server that another module runs or knows: pgfx/embedded and fxtest provide one. It fills
// an empty address of a [Config] and is ignored when the Config has an address of its own. The zero Endpoint names no server.
//
// An Endpoint prints with its password masked.
type Endpoint struct {
	// URL is a PostgreSQL connection URL, for example postgres://app@/app?host=/run/postgresql.
	URL string
	// Override makes the endpoint replace even an address that the Config has. Test kits set it, so that a test never
	// runs on the server that the application's own configuration names.
	Override bool
}

// IsZero reports whether e names no server.
func (e Endpoint) IsZero() bool { return e.URL == "" }

// String returns the URL with its password masked.
func (e Endpoint) String() string { return redact.ConnString(e.URL) }

// Format prints the masked URL for every verb, so that %#v and %+v show no secret either.
func (e Endpoint) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, e.String()) }

// MarshalJSON writes the masked URL.
func (e Endpoint) MarshalJSON() ([]byte, error) { return json.Marshal(e.String()) }

// MarshalText writes the masked URL; YAML and log encoders use it.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }
