package awsauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// IAM returns an option that logs in with a token of IAM database authentication, made for each connection of the pool and outside
// it. The login user is that of the Config. A password in the Config is not used.
//
// The database needs IAM authentication enabled and "grant rds_iam to" the login user. The AWS identity needs a policy that allows
// rds-db:connect. RDS Proxy needs IAM authentication for its clients.
//
// The connection must use TLS, because a token is sent as it is. With the TLS modes prefer and allow, only the attempts with TLS
// are made. Without TLS, connecting fails before anything is sent. Use verify-full: a server that
// impersonates the database could use the token for 15 minutes.
//
// A token is made for one endpoint, in one region (see [WithEndpoint] and [WithRegion]). For several addresses, each attempt has
// its own token.
func IAM(opts ...TokenOption) pgfx.Option { return tokenOptionOf(serviceRDS, opts) }

// DSQL returns an option that logs in to Aurora DSQL with a token, made for each connection. If the login user is "admin", its
// action is DbConnectAdmin, else DbConnect. Everything else is as in [IAM].
func DSQL(opts ...TokenOption) pgfx.Option { return tokenOptionOf(serviceDSQL, opts) }

func tokenOptionOf(service string, opts []TokenOption) pgfx.Option {
	a := newTokenAuth(service, opts)
	return pgfx.WithAuthenticator(a).For(a.settings.database)
}

// tokenAuth is an authenticator that makes tokens.
type tokenAuth struct {
	service  string
	settings tokenSettings
	aws      awsConfig
	signer   atomic.Pointer[signer] // of the last token
	now      func() time.Time
}

// signer is what is known of the credentials that sign tokens.
type signer struct {
	keyID   string
	expires time.Time // zero: never
}

func newTokenAuth(service string, opts []TokenOption) *tokenAuth {
	a := &tokenAuth{service: service, now: time.Now}
	for _, opt := range opts {
		opt.applyToken(&a.settings)
	}
	a.aws.given = a.settings.aws
	return a
}

// AddressSource returns "": the address is that of the Config.
func (a *tokenAuth) AddressSource() string { return "" }

var errNotEncrypted = errors.New("awsauth: the connection is not encrypted, so no token was sent: set TLS.Mode to verify-full and " +
	"TLS.CAFile to the RDS CA bundle")

// BeforeConnect gets the AWS credentials, and arranges that the token is made when the connection is encrypted. It is made for the
// server name of that connection, so it fits whichever address was dialled.
func (a *tokenAuth) BeforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	if _, err := a.aws.credentials(ctx); err != nil { // before a connection is opened
		return err
	}
	keepEncrypted(cc)
	cc.Password = ""
	next := cc.AfterNetConnect
	cc.AfterNetConnect = func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		encrypted, ok := conn.(*tls.Conn)
		if !ok {
			return conn, errNotEncrypted
		}
		text, err := a.tokenFor(ctx, config, encrypted)
		if err != nil {
			return conn, err
		}
		config.Password = text
		if next != nil {
			return next(ctx, config, conn)
		}
		return conn, nil
	}
	return nil
}

// keepEncrypted removes the attempts without TLS, as long as there are others.
func keepEncrypted(cc *pgx.ConnConfig) {
	attempts := []*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}}
	attempts = append(attempts, cc.Fallbacks...)
	var encrypted []*pgconn.FallbackConfig
	for _, attempt := range attempts {
		if attempt.TLSConfig != nil {
			encrypted = append(encrypted, attempt)
		}
	}
	if len(encrypted) == 0 {
		return // AfterNetConnect refuses them
	}
	cc.Host, cc.Port, cc.TLSConfig = encrypted[0].Host, encrypted[0].Port, encrypted[0].TLSConfig
	cc.Fallbacks = encrypted[1:]
}

// tokenFor returns the token for a connection that was dialled and encrypted.
func (a *tokenAuth) tokenFor(ctx context.Context, config *pgconn.Config, conn *tls.Conn) (string, error) {
	credentials, err := a.aws.credentials(ctx)
	if err != nil {
		return "", err
	}
	host, port := a.endpoint(config, conn)
	t := token{
		host: host, port: port, action: "connect", user: config.User, service: a.service,
		keyID: credentials.AccessKeyID, signedAt: a.now().UTC(), life: tokenLife,
	}
	if a.service == serviceDSQL {
		t.port, t.user, t.action = "", "", "DbConnect"
		if config.User == "admin" {
			t.action = "DbConnectAdmin"
		}
	}
	if t.region, err = a.region(ctx, host); err != nil {
		return "", err
	}
	a.noteSigner(credentials)
	return t.sign(ctx, credentials)
}

func (a *tokenAuth) noteSigner(credentials aws.Credentials) {
	s := signer{keyID: credentials.AccessKeyID}
	if credentials.CanExpire {
		s.expires = credentials.Expires
	}
	a.signer.Store(&s)
}

// endpoint returns the host and the port for which a token is made.
func (a *tokenAuth) endpoint(config *pgconn.Config, conn *tls.Conn) (host, port string) {
	host, port = conn.ConnectionState().ServerName, strconv.Itoa(int(config.Port))
	if host == "" { // an IP address
		host = config.Host
	}
	if address, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		port = strconv.Itoa(address.Port)
	}
	if given := a.settings.endpoint; given != "" {
		if givenHost, givenPort, err := net.SplitHostPort(given); err == nil {
			return givenHost, givenPort
		}
		return given, port
	}
	return host, port
}

func (a *tokenAuth) region(ctx context.Context, host string) (string, error) {
	if a.settings.region != "" {
		return a.settings.region, nil
	}
	if region := regionOfHost(host); region != "" {
		return region, nil
	}
	loaded, err := a.aws.load(ctx)
	if err != nil {
		return "", err
	}
	if loaded.Region == "" {
		return "", fmt.Errorf("awsauth: no region for a token: %q does not name one, and AWS_REGION is not set; use awsauth.WithRegion", host)
	}
	return loaded.Region, nil
}
