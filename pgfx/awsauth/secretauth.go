package awsauth

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	defaultTTL = time.Hour
	minTTL     = time.Minute
	// refreshInterval is the shortest time between two reads of a secret, and between two logins with a refused password.
	refreshInterval = 3 * time.Second
	// readTimeout bounds one read, with the retries of the SDK.
	readTimeout = 10 * time.Second
)

// SecretsManager returns an option that logs in with a secret of AWS Secrets Manager. id is the name or the ARN of the secret. Its
// user and password take precedence over the Config. Its host and port are used if no source of the configuration has an address,
// and its database if there is none in the configuration. A secret that is not JSON is a password.
//
// The secret is read when the first connection is opened, then in the background when it is older than [WithTTL]. While Secrets
// Manager is unavailable, the last known values are used.
//
// Rotation changes the password on the server a few seconds before it changes the secret. If the server refuses the login (SQLSTATE
// 28P01 or 28000), the next connection reads the version AWSCURRENT. If that is the refused one, it reads AWSPENDING. All
// connections share this read, and the next one begins 3 s later at the earliest. While the server refuses every known version, one
// connection in 3 s logs in, and the others fail at once. So a wrong password does not lock the user out.
//
// The AWS identity needs secretsmanager:GetSecretValue, and kms:Decrypt if the secret has a customer managed key.
func SecretsManager(id string, opts ...SecretOption) pgfx.Option {
	a := newSecretAuth(id, opts)
	return pgfx.WithAuthenticator(a).For(a.settings.database)
}

// secretAuth is an authenticator that uses a secret.
type secretAuth struct {
	settings secretSettings
	id       string
	cache    *secretCache
}

func newSecretAuth(id string, opts []SecretOption) *secretAuth {
	a := &secretAuth{id: id}
	for _, opt := range opts {
		opt.applySecret(&a.settings)
	}
	reader := &secretReader{id: id, region: cmp.Or(a.settings.region, regionOfARN(id))}
	reader.aws.given = a.settings.aws
	logger := a.settings.logger
	if logger == nil {
		logger = zap.NewNop()
	}
	a.cache = newSecretCache(reader.read, a.ttl(), logger.Named("awsauth").With(zap.String("secret", id)))
	return a
}

func (a *secretAuth) ttl() time.Duration {
	return max(cmp.Or(a.settings.ttl, defaultTTL), minTTL)
}

// AddressSource names the secret.
func (a *secretAuth) AddressSource() string { return "secret " + strconv.Quote(a.id) }

// BeforeConnect sets the credentials and, if the Config has none, the address.
func (a *secretAuth) BeforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	value, err := a.cache.get(ctx)
	if err != nil {
		return err
	}
	pgfx.SetAddress(cc, value.host, value.port, value.database)
	if value.username != "" {
		cc.User = value.username
	}
	cc.Password = value.password
	cc.AfterNetConnect = before(cc.AfterNetConnect, func() error { return a.cache.beginLogin(value.login()) })
	next := cc.AfterConnect
	cc.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		a.cache.accepted(value.login())
		if next != nil {
			return next(ctx, conn)
		}
		return nil
	}
	return nil
}

// afterNetConnect is the type of pgconn.Config.AfterNetConnect.
type afterNetConnect = func(context.Context, *pgconn.Config, net.Conn) (net.Conn, error)

// before returns a hook that calls check, and then next if there is one.
func before(next afterNetConnect, check func() error) afterNetConnect {
	return func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if err := check(); err != nil || next == nil {
			return conn, err
		}
		return next(ctx, config, conn)
	}
}

// LoginRefused makes the next connection read the secret again.
func (a *secretAuth) LoginRefused(config *pgconn.Config, err error) string {
	value := a.cache.refused(config.Password, err)
	if value == nil {
		return ""
	}
	return fmt.Sprintf("the server refused version %s (%s) of secret %q for user %s: if the secret was not just rotated, "+
		"set the role's password to that of the secret, and check that the role exists and may log in", value.version, value.stage, a.id, config.User)
}
