package pgfx

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Authenticator logs in connections with tokens or managed secrets. Package pgfx/awsauth has implementations for AWS. Use
// [WithCredentials] for a function that only returns a user and a password.
//
// An Authenticator must be safe for concurrent use.
type Authenticator interface {
	// BeforeConnect changes the configuration of one new connection, in the pool or outside it. It runs before the functions of
	// [WithBeforeConnect]. If AddressSource is not empty, it also calls [SetAddress]. An error fails the attempt to connect. ctx
	// ends with the attempt.
	BeforeConnect(ctx context.Context, cc *pgx.ConnConfig) error
	// LoginRefused is called when the server has refused the login of a connection (see [CauseLogin]). config is the
	// configuration of that connection, with its password. The result explains the refusal in the text of the [*ConnectError];
	// if it is empty, the text has a general hint. LoginRefused must return quickly.
	LoginRefused(config *pgconn.Config, err error) (hint string)
	// AddressSource describes where BeforeConnect takes an address from, for example: secret "app". A [Config] needs no
	// address then. It is empty if BeforeConnect sets none.
	AddressSource() string
}

// unknownHost is the host of a connection whose address an [Authenticator] provides, because the [Config] has none.
const unknownHost = "address.invalid" // no server can have it (RFC 2606)

// SetAddress sets the address of a new connection, and the name that its certificate must have, if the [Config] has no address.
// It sets the database if the Config has none. Without a host it does nothing. An [Authenticator] uses it.
func SetAddress(cc *pgx.ConnConfig, host string, port uint16, database string) {
	if cc.Database == "" {
		cc.Database = database
	}
	if cc.Host != unknownHost || host == "" {
		return
	}
	cc.Host, cc.Port = host, port
	for _, fallback := range cc.Fallbacks {
		fallback.Host, fallback.Port = host, port
	}
	configs, _ := tlsConfigs(cc)
	for _, config := range configs {
		if config.ServerName == unknownHost {
			config.ServerName = host
		}
	}
}

// WithAuthenticator adds an [Authenticator] for the connections in the pool and outside it. Its changes take precedence over the
// [Config]. If the server refuses a login during a start or in [Retry], one more attempt is made. It is not used with the address of
// an [Endpoint], such as a test server, which includes its own credentials.
func WithAuthenticator(authenticator Authenticator) Option {
	return Option{apply: func(o *options) { o.authenticators = append(o.authenticators, authenticator) }}
}

// addressSource returns the source of an address for a Config that has none, "" if there is no such source.
func (o *options) addressSource() string {
	for _, authenticator := range o.authenticators {
		if source := authenticator.AddressSource(); source != "" {
			return source
		}
	}
	return ""
}

// loginRefused passes a refused login to the authenticators and returns the first explanation.
func (db *DB) loginRefused(config *pgconn.Config, err error) (hint string) {
	for _, authenticator := range db.options.authenticators {
		if explanation := authenticator.LoginRefused(config, err); hint == "" {
			hint = explanation
		}
	}
	return hint
}
