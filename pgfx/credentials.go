package pgfx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Credentials are the user and password of a new connection. They print with the password masked.
type Credentials struct {
	// Username is the login user. Default: the user of the configuration.
	Username string
	// Password is a password or a token. It must not be empty.
	Password string
}

// Format implements fmt.Formatter. It masks the password for every verb.
func (c Credentials) Format(s fmt.State, _ rune) {
	password := ""
	if c.Password != "" {
		password = redact.Mask
	}
	_, _ = fmt.Fprintf(s, "{%s %s}", c.Username, password)
}

// MarshalText implements encoding.TextMarshaler, for JSON, YAML and log encoders. It masks the password.
func (c Credentials) MarshalText() ([]byte, error) { return fmt.Append(nil, c), nil }

// WithCredentials calls provide for each new connection, in the pool and outside it. Use it for short-lived tokens, such as
// those of RDS IAM authentication, and for rotated secrets. The result takes precedence over the configuration. While the server
// refuses the login, the health monitor also calls provide up to ten times a second, and logs in when the result changes.
//
// ctx ends with the attempt to connect. An error fails the attempt. If the server refuses the login during a start or in
// [Retry], one more attempt is made with new credentials. provide must be safe for concurrent use. Results are not cached.
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

// Credentials returns the credentials with which the next connection would log in. It connects to nothing, but calls the functions
// of [WithBeforeConnect] and [WithCredentials] with ctx. The health monitor uses it to notice that refused credentials were
// replaced.
func (i *Internals) Credentials(ctx context.Context) (Credentials, error) {
	cc := i.db.connConfig.Copy()
	if err := i.db.prepareConfig(ctx, cc); err != nil {
		return Credentials{}, err
	}
	return Credentials{Username: cc.User, Password: cc.Password}, nil
}
