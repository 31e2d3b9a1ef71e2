package awsauth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/awsauth"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

const eventually = 20 * time.Second

// awsConfig returns a configuration of the SDK with fixed credentials and without a region.
func awsConfig(change ...func(*aws.Credentials)) aws.Config {
	credentials := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secretKey}
	for _, c := range change {
		c(&credentials)
	}
	return aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })}
}

func open(t *testing.T, cfg pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	t.Cleanup(cancel)
	return ctx
}

func TestIAM_TokenForEachConnection(t *testing.T) {
	t.Parallel()
	f := newFront(t, "rds-db", rdsHost)
	for _, mode := range []pgfx.TLSMode{pgfx.TLSVerifyFull, pgfx.TLSVerifyCA, pgfx.TLSRequire, pgfx.TLSPrefer, pgfx.TLSAllow} {
		cfg, resolve := f.config(mode)
		cfg.Pool.MinConns, cfg.Password = 3, "not used"
		before := f.accepted.Load()
		db := open(t, cfg, resolve, awsauth.IAM(awsauth.WithAWSConfig(awsConfig())))
		require.NoError(t, db.Start(within(t)), f.reasons)
		var database string
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select current_database()").Scan(&database))
		assert.Equal(t, f.upstream.Database, database)
		assert.GreaterOrEqual(t, f.accepted.Load()-before, int64(4), "one to start and the pool's minimum")
	}
	assert.NotContains(t, string(f.wire()), "X-Amz", "the token is encrypted")
	assert.Contains(t, string(f.wire()), rdsHost, "the tap works: the server name is not encrypted")
}

func TestIAM_RequiresTLS(t *testing.T) {
	t.Parallel()
	f := newFront(t, "rds-db", rdsHost, func(f *front) { f.plain = true })
	for mode, text := range map[pgfx.TLSMode]string{
		pgfx.TLSVerifyFull: "server refused TLS connection",
		pgfx.TLSPrefer:     "server refused TLS connection",
		pgfx.TLSDisable:    "awsauth: the connection is not encrypted, so no token was sent: set TLS.Mode to verify-full",
	} {
		cfg, resolve := f.config(mode)
		db := open(t, cfg, resolve, awsauth.IAM(awsauth.WithAWSConfig(awsConfig())))
		_, err := db.Connect(t.Context(), "")
		require.ErrorContains(t, err, text)
	}
	sslRequest := "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	assert.Equal(t, strings.Repeat(sslRequest, 2), string(f.wire()), "not even the user's name is sent")
}

func TestIAM_Endpoint(t *testing.T) {
	t.Parallel()
	f := newFront(t, "rds-db", rdsHost)
	cfg, resolve := f.config(pgfx.TLSVerifyFull)
	cfg.Host = "db.example.com"
	_, err := open(t, cfg, resolve, awsauth.IAM(awsauth.WithAWSConfig(awsConfig()))).Connect(t.Context(), "")
	require.ErrorContains(t, err, `awsauth: no region for a token: "db.example.com" does not name one, and AWS_REGION is not set; use awsauth.WithRegion`)

	at := func(endpoint string) *pgfx.DB {
		return open(t, cfg, resolve, awsauth.IAM(awsauth.WithAWSConfig(awsConfig()), awsauth.WithEndpoint(endpoint)))
	}
	for _, endpoint := range []string{rdsHost, fmt.Sprintf("%s:%d", rdsHost, f.port())} {
		conn, err := at(endpoint).Connect(t.Context(), "")
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	}
	_, err = at(rdsHost+":6543").Connect(t.Context(), "")
	require.ErrorContains(t, err, "the IAM token for app_user at "+rdsHost+":6543")
}

func TestIAM_TokenFollowsRoute(t *testing.T) {
	t.Parallel()
	f := newFront(t, "rds-db", rdsHost)
	cfg, _ := f.config(pgfx.TLSVerifyFull)
	cfg.Host = "app.cluster-abc123.eu-west-1.rds.amazonaws.com"
	db := open(t, cfg, awsauth.IAM(awsauth.WithAWSConfig(awsConfig())))
	db.Internals().RouteConnections(func(host string, port uint16) []pgfx.Address { // as package aurora does after a failover
		assert.Equal(t, cfg.Host, host)
		return []pgfx.Address{{Host: rdsHost, Port: port, IPs: []string{"127.0.0.1"}}}
	})
	conn, err := db.Connect(t.Context(), "")
	require.NoError(t, err, "the token is made for the instance endpoint: %v", f.reasons)
	require.NoError(t, conn.Close(t.Context()))
}

func TestIAM_ExplainsRefusedToken(t *testing.T) {
	t.Parallel()
	session := strings.Repeat("SESSION", 20)
	regional := awsConfig()
	regional.Region = "eu-west-1"
	for name, test := range map[string]struct {
		code string
		host string
		opts []awsauth.TokenOption
		want string
	}{
		"wrong region": {
			opts: []awsauth.TokenOption{awsauth.WithAWSConfig(awsConfig()), awsauth.WithRegion("us-east-1")},
			want: "made for region us-east-1, signed at .*Z by key AKID…TEST, valid for 15m0s: the host is in region eu-west-1: remove awsauth.WithRegion$",
		},
		"custom name": {
			host: "db.example.com", opts: []awsauth.TokenOption{awsauth.WithAWSConfig(regional)},
			want: "for app_user at db.example.com:.*: db.example.com is no endpoint of RDS: set awsauth.WithEndpoint to the endpoint behind this name$",
		},
		"other host": {
			opts: []awsauth.TokenOption{awsauth.WithAWSConfig(awsConfig()), awsauth.WithEndpoint("other.abc123.eu-west-1.rds.amazonaws.com")},
			want: "it names another host than the connection, " + rdsHost,
		},
		"expired credentials": {
			opts: []awsauth.TokenOption{awsauth.WithAWSConfig(awsConfig(func(c *aws.Credentials) {
				c.SessionToken, c.CanExpire, c.Expires = session, true, time.Now().Add(-time.Minute)
			}))},
			want: "the AWS credentials that signed it expired at ",
		},
		"no rds_iam": {
			code: "28P01", opts: []awsauth.TokenOption{awsauth.WithAWSConfig(awsConfig(func(c *aws.Credentials) { c.AccessKeyID = "AKIDUNKNOWN00OTHER" }))},
			want: `the server checked it as a password: enable IAM authentication and run "grant rds_iam to app_user"`,
		},
		"no known problem": {
			opts: []awsauth.TokenOption{awsauth.WithAWSConfig(awsConfig(func(c *aws.Credentials) { c.SecretAccessKey = "other" }))},
			want: `may call rds-db:connect on arn:aws:rds-db:eu-west-1:<account>:dbuser:<resource id>/app_user, that the role has rds_iam, that the clock of this machine is right$`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, "rds-db", rdsHost, func(f *front) {
				if test.code != "" {
					f.refuseCode = test.code
				}
			})
			cfg, resolve := f.config(pgfx.TLSPrefer)
			if test.host != "" {
				cfg.Host = test.host
			}
			_, err := open(t, cfg, resolve, awsauth.IAM(test.opts...)).Connect(t.Context(), "")
			var connect *pgfx.ConnectError
			require.ErrorAs(t, err, &connect)
			assert.Equal(t, pgfx.CauseLogin, connect.Cause)
			assert.Regexp(t, test.want, err.Error())
			for _, secret := range []string{secretKey, session, "Signature", keyID, "other/"} {
				assert.NotContains(t, err.Error(), secret)
			}
			assert.Equal(t, int64(1), f.refused.Load(), "no second attempt without TLS")
		})
	}
}

func TestDSQL_Token(t *testing.T) {
	t.Parallel()
	f := newFront(t, "dsql", dsqlHost)
	for _, user := range []string{"app", "admin"} {
		cfg, resolve := f.config(pgfx.TLSVerifyFull)
		cfg.Username = user
		conn, err := open(t, cfg, resolve, awsauth.DSQL(awsauth.WithAWSConfig(awsConfig()))).Connect(t.Context(), "")
		require.NoError(t, err, f.reasons)
		require.NoError(t, conn.Close(t.Context()))
	}
	cfg, resolve := f.config(pgfx.TLSVerifyFull)
	wrong := awsConfig(func(c *aws.Credentials) { c.SecretAccessKey = "other" })
	_, err := open(t, cfg, resolve, awsauth.DSQL(awsauth.WithAWSConfig(wrong))).Connect(t.Context(), "")
	require.ErrorContains(t, err, "the IAM token for DbConnect at "+dsqlHost)
	require.ErrorContains(t, err, "may call dsql:DbConnect on this cluster, and that it is granted to the database role app_user")
}

// isolate hides the AWS configuration of the machine from the default chain.
func isolate(t *testing.T) {
	t.Helper()
	for _, name := range []string{"ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "DEFAULT_REGION"} {
		t.Setenv("AWS_"+name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestIAM_DefaultChain(t *testing.T) {
	session := base64.StdEncoding.EncodeToString([]byte("session/+ token"))
	f := newFront(t, "rds-db", rdsHost, func(f *front) { f.sessionToken = session })
	connect := func(t *testing.T) error {
		t.Helper()
		cfg, resolve := f.config(pgfx.TLSVerifyFull)
		conn, err := open(t, cfg, resolve, awsauth.IAM()).Connect(within(t), "")
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	}
	expiration := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	t.Run("environment", func(t *testing.T) {
		isolate(t)
		t.Setenv("AWS_ACCESS_KEY_ID", keyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
		t.Setenv("AWS_SESSION_TOKEN", session)
		require.NoError(t, connect(t), f.reasons)
	})
	t.Run("container", func(t *testing.T) {
		isolate(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":%q}`, keyID, secretKey, session, expiration)
		}))
		defer server.Close()
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL+"/credentials")
		require.NoError(t, connect(t), f.reasons)
	})
	t.Run("web identity, and the clock of AWS", func(t *testing.T) {
		isolate(t)
		key := secretKey
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
				<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey>
				<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>
				</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, keyID, key, session, expiration)
		}))
		defer server.Close()
		file := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(file, []byte("jwt"), 0o600))
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
		t.Setenv("AWS_REGION", "eu-west-1")
		t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
		require.NoError(t, connect(t), f.reasons)
		key = "other"
		err := connect(t)
		require.Error(t, err)
		require.Regexp(t, `the clock of this machine is 1h0m\d+s ahead of that of AWS: synchronize it$`, err.Error())
	})
	t.Run("no credentials", func(t *testing.T) {
		isolate(t)
		before := len(f.wire())
		require.ErrorContains(t, connect(t), "awsauth: get AWS credentials: ")
		assert.Len(t, f.wire(), before, "no connection is opened")
	})
}

func TestProvideIAM_OneLine(t *testing.T) {
	t.Parallel()
	f := newFront(t, "rds-db", rdsHost)
	reporting := newFront(t, "rds-db", rdsHost)
	cfg, resolve := f.config(pgfx.TLSVerifyFull)
	reportingConfig, resolveReporting := reporting.config(pgfx.TLSVerifyFull)
	var db, reportingDB *pgfx.DB
	app := fx.New(
		fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"),
		fx.Supply(cfg, fx.Annotate(reportingConfig, fx.ResultTags(`name:"reporting"`))),
		pgfx.ProvideOptions(resolve, resolveReporting.For("reporting")),
		awsauth.ProvideIAM(awsauth.WithAWSConfig(awsConfig())),
		awsauth.ProvideIAM(awsauth.WithAWSConfig(awsConfig()), awsauth.WithDatabase("reporting")),
		fx.Populate(&db, fx.Annotate(&reportingDB, fx.ParamTags(`name:"reporting"`))),
	)
	require.NoError(t, app.Start(within(t)))
	require.NoError(t, db.Pool().Ping(t.Context()))
	require.NoError(t, reportingDB.Pool().Ping(t.Context()))
	require.NoError(t, app.Stop(within(t)))
	assert.Positive(t, f.accepted.Load())
	assert.Positive(t, reporting.accepted.Load())
}

func TestProvideIAM_TestServerNeedsNoToken(t *testing.T) {
	t.Parallel()
	noCredentials := aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no credentials in tests")
	})}
	var db *pgfx.DB
	fxtest.New(t, fxtest.Fx(rdsfx.Module, awsauth.ProvideIAM(awsauth.WithAWSConfig(noCredentials)), fx.Populate(&db)))
	require.NoError(t, db.Pool().Ping(t.Context()))
}
