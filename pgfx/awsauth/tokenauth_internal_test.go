package awsauth

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeepEncrypted_RemovesAttemptsWithoutTLS(t *testing.T) {
	t.Parallel()
	cc, err := pgx.ParseConfig("postgres://app@one.test,two.test/app?sslmode=allow") // without TLS first
	require.NoError(t, err)
	require.Nil(t, cc.TLSConfig)
	keepEncrypted(cc)
	assert.Equal(t, "one.test", cc.Host)
	assert.NotNil(t, cc.TLSConfig)
	require.Len(t, cc.Fallbacks, 1)
	assert.Equal(t, "two.test", cc.Fallbacks[0].Host)
	assert.NotNil(t, cc.Fallbacks[0].TLSConfig)

	cc, err = pgx.ParseConfig("postgres://app@one.test/app?sslmode=disable")
	require.NoError(t, err)
	keepEncrypted(cc)
	assert.Equal(t, "one.test", cc.Host, "the attempt stays, and fails with a reason")
}

func TestIAM_ExplainsExpiredToken(t *testing.T) {
	t.Parallel()
	const host = "app.abc123.eu-west-1.rds.amazonaws.com"
	signed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := token{
		host: host, port: "5432", action: "connect", user: "app", service: serviceRDS, region: "eu-west-1", signedAt: signed, life: tokenLife,
	}
	text, err := made.sign(t.Context(), aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"})
	require.NoError(t, err)
	a := newTokenAuth(serviceRDS, nil)
	config := &pgconn.Config{Host: host, User: "app", Password: text}
	for after, expired := range map[time.Duration]bool{tokenLife - time.Second: false, tokenLife + time.Second: true} {
		a.now = func() time.Time { return signed.Add(after) }
		explained := a.LoginRefused(config, &pgconn.PgError{Code: "28000"})
		if expired {
			assert.Contains(t, explained, "it expired at 2026-01-02T03:19:05Z")
		} else {
			assert.NotContains(t, explained, "expired")
		}
	}
}
