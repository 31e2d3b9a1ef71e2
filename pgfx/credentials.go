package pgfx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Credentials are what a connection logs in with. They print with the password masked.
type Credentials struct {
	// Username is the role; empty means the configuration's.
	Username string
	// Password is a password or a token.
	Password string
}

// Format prints the credentials with the password masked, for every verb.
func (c Credentials) Format(s fmt.State, _ rune) {
	password := ""
	if c.Password != "" {
		password = redact.Mask
	}
	_, _ = fmt.Fprintf(s, "{%s %s}", c.Username, password)
}

// MarshalText writes what Format prints; JSON, YAML and log encoders use it.
func (c Credentials) MarshalText() ([]byte, error) { return fmt.Append(nil, c), nil }

// WithCredentials has provide asked for each new connection, in the pool and outside it: for short-lived tokens such as RDS
// IAM authentication's, or a secret that is rotated. What it returns wins over the configuration. ctx ends with the attempt
// to connect. An error fails the attempt; a login that is refused is tried once more at start, with fresh credentials.
// provide must be safe for concurrent use; caching is its own affair.
func WithCredentials(provide func(ctx context.Context) (Credentials, error)) Option {
	return WithBeforeConnect(func(ctx context.Context, cc *pgx.ConnConfig) error {
		credentials, err := provide(ctx)
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		if credentials.Password == "" {
			return errors.New("credentials: the provider returned no password")
		}
		if credentials.Username != "" {
			cc.User = credentials.Username
		}
		cc.Password = credentials.Password
		return nil
	})
}
