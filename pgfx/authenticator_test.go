package pgfx_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// storedLogin is an Authenticator that takes everything from a configuration.
type storedLogin struct {
	source   string
	login    *pgx.ConnConfig
	password func() string
	refused  chan string // passwords
}

func (s *storedLogin) AddressSource() string { return s.source }

func (s *storedLogin) BeforeConnect(_ context.Context, cc *pgx.ConnConfig) error {
	pgfx.SetAddress(cc, s.login.Host, s.login.Port, s.login.Database)
	cc.User, cc.Password = s.login.User, s.password()
	return nil
}

func (s *storedLogin) LoginRefused(config *pgconn.Config, _ error) string {
	s.refused <- config.Password
	return "ask the vault"
}

func TestWithAuthenticator_ProvidesAddress(t *testing.T) {
	login, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	t.Setenv("PGHOST", "")
	a := &storedLogin{source: `secret "app"`, login: login, password: func() string { return login.Password }}
	db := started(t, pgfx.Config{}, pgfx.WithAuthenticator(a))
	assert.Equal(t, `secret "app"`, db.Target())
	require.NoError(t, db.Pool().Ping(t.Context()))

	a.source = ""
	_, err = pgfx.Open(pgfx.Config{}, pgfx.WithAuthenticator(a))
	require.ErrorContains(t, err, "set URL or Host")
}

func TestWithAuthenticator_ExplainsRefusedLogin(t *testing.T) {
	login, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	t.Setenv("PGHOST", "")
	passwords := []string{"expired", login.Password}
	next := func() string {
		password := passwords[0]
		passwords = passwords[1:]
		return password
	}
	a := &storedLogin{source: `secret "app"`, login: login, password: next, refused: make(chan string, 1)}
	db := open(t, pgfx.Config{}, pgfx.WithAuthenticator(a))
	_, err = db.Connect(t.Context(), "")
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	require.Len(t, a.refused, 1)
	assert.Equal(t, "expired", <-a.refused)
	assert.Regexp(t, `^`+login.User+`@.*`+login.Database+`$`, connect.Target, "the real address")
	require.ErrorContains(t, err, ": ask the vault")
	assert.NotContains(t, err.Error(), "the password is wrong")

	conn, err := db.Connect(t.Context(), "")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}
