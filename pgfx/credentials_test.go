package pgfx_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestWithCredentials_CalledForEachConnection(t *testing.T) {
	t.Parallel()
	admin := started(t, serverConfig())
	_, err := admin.Pool().Exec(t.Context(), "create role token login password 'token-1'")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Pool().Exec(context.Background(), "drop role token") })

	var calls atomic.Int32
	var token atomic.Value
	token.Store("token-1")
	db := started(t, serverConfig(), pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
		calls.Add(1)
		return pgfx.Credentials{Username: "token", Password: token.Load().(string)}, nil
	}))
	var user string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select current_user").Scan(&user))
	assert.Equal(t, "token", user)

	_, err = admin.Pool().Exec(t.Context(), "alter role token password 'token-2'")
	require.NoError(t, err)
	token.Store("token-2")
	before := calls.Load()
	db.Reset()
	require.NoError(t, db.Pool().Ping(t.Context()))
	assert.Equal(t, before+1, calls.Load())
}

func TestWithCredentials_RetriesRefusedLoginOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	db := open(t, serverConfig(), pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
		if calls.Add(1) == 1 {
			return pgfx.Credentials{Password: "expired"}, nil
		}
		return pgfx.Credentials{Password: serverPassword(t)}, nil
	}))
	require.NoError(t, db.Start(within(t, 10*time.Second)))

	wrong := open(t, serverConfig(), pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
		return pgfx.Credentials{Password: "hunter2"}, nil
	}))
	err := wrong.Start(within(t, 10*time.Second))
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	assert.Equal(t, pgfx.CauseLogin, connect.Cause)
	assert.Equal(t, 2, connect.Attempts, "one retry, so that the account is not locked")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestWithCredentials_ProviderError(t *testing.T) {
	t.Parallel()
	boom := errors.New("no token today")
	for want, provide := range map[string]func(context.Context) (pgfx.Credentials, error){
		"credentials: no token today":                    func(context.Context) (pgfx.Credentials, error) { return pgfx.Credentials{}, boom },
		"credentials: the provider returned no password": func(context.Context) (pgfx.Credentials, error) { return pgfx.Credentials{}, nil },
	} {
		db := open(t, serverConfig(), pgfx.WithCredentials(provide))
		require.ErrorContains(t, db.Start(within(t, 10*time.Second)), want)
	}
}

func TestCredentials_PrintMasked(t *testing.T) {
	t.Parallel()
	c := pgfx.Credentials{Username: "app", Password: "hunter2"}
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	text := fmt.Sprintf("%v %+v %#v %s %s", c, c, c, c, asJSON)
	assert.NotContains(t, text, "hunter2")
	assert.Contains(t, text, "{app xxxxx}")
}

func TestTLSConfig_AppliesToEveryAddress(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{
		URL: "postgres://app@one:1,two:2/app", TargetSessionAttrs: "read-write",
		TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, ServerName: "db.example.com", MinVersion: "1.3"},
	})
	cc := db.Pool().Config().ConnConfig
	require.Len(t, cc.Fallbacks, 1)
	for _, config := range []*tls.Config{cc.TLSConfig, cc.Fallbacks[0].TLSConfig} {
		assert.Equal(t, "db.example.com", config.ServerName)
		assert.EqualValues(t, tls.VersionTLS13, config.MinVersion)
	}
	assert.NotNil(t, cc.ValidateConnect, "target session attributes")
	assert.Equal(t, "app@one:1,two:2/app", db.Target())
	cc = open(t, pgfx.Config{URL: "postgres://app@one/app"}).Pool().Config().ConnConfig
	assert.EqualValues(t, tls.VersionTLS12, cc.TLSConfig.MinVersion)
	assert.Equal(t, "one", cc.TLSConfig.ServerName)
}
