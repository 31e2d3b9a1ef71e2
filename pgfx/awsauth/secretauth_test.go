package awsauth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/awsauth"
)

const secretID = "app/db"

// secretsManager is an HTTP server that answers as AWS Secrets Manager does.
type secretsManager struct {
	server *httptest.Server

	mu       sync.Mutex
	versions map[string]string // by stage
	down     bool
	reads    []string // stages
	problem  string
}

func newSecretsManager(t *testing.T) *secretsManager {
	t.Helper()
	m := &secretsManager{versions: make(map[string]string)}
	m.server = httptest.NewServer(m)
	t.Cleanup(func() {
		m.server.Close()
		assert.Empty(t, m.problem)
	})
	return m
}

func (m *secretsManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reply := func(status int, body map[string]any) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	var request struct {
		SecretID     string `json:"SecretId"`     //nolint:tagliatelle // AWS names it
		VersionStage string `json:"VersionStage"` //nolint:tagliatelle // AWS names it
	}
	switch err := json.NewDecoder(r.Body).Decode(&request); {
	case err != nil, r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue", request.SecretID != secretID,
		!strings.Contains(r.Header.Get("Authorization"), "Credential="+keyID+"/"),
		!strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/secretsmanager/aws4_request"):
		m.problem = fmt.Sprint("unexpected request: ", err, request, r.Header)
	}
	m.reads = append(m.reads, request.VersionStage)
	text, ok := m.versions[request.VersionStage]
	switch {
	case m.down:
		reply(http.StatusServiceUnavailable, map[string]any{"__type": "InternalServiceError", "Message": "away"})
	case !ok:
		reply(http.StatusBadRequest, map[string]any{"__type": "ResourceNotFoundException", "Message": "no such stage"})
	default:
		reply(http.StatusOK, map[string]any{
			"Name": secretID, "SecretString": text, "VersionId": "v-" + request.VersionStage, "VersionStages": []string{request.VersionStage},
		})
	}
}

// set changes the versions; an empty text removes a stage.
func (m *secretsManager) set(stage, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions[stage] = text
	if text == "" {
		delete(m.versions, stage)
	}
}

func (m *secretsManager) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *secretsManager) readStages() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.reads...)
}

func (m *secretsManager) config() aws.Config {
	cfg := awsConfig()
	cfg.Region, cfg.BaseEndpoint, cfg.RetryMaxAttempts = "eu-west-1", aws.String(m.server.URL), 1
	return cfg
}

// secretText returns the JSON of a secret for a server.
func secretText(t *testing.T, serverURL, username, password string) string {
	t.Helper()
	cc, err := pgx.ParseConfig(serverURL)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": cc.Host, "port": cc.Port, "dbname": cc.Database, "username": username, "password": password,
	})
	require.NoError(t, err)
	return string(text)
}

// role is a login user of a server that checks passwords.
type role struct {
	t     *testing.T
	admin *pgfx.DB
	url   string
}

func newRole(t *testing.T) *role {
	t.Helper()
	server := faults.NewServer(t)
	address, err := url.Parse(server.URL())
	require.NoError(t, err)
	r := &role{t: t, url: address.String()}
	r.admin = open(t, pgfx.Config{URL: server.URL()})
	require.NoError(t, r.admin.Start(within(t)))
	r.exec("create role app login password 'one'")
	return r
}

func (r *role) exec(sql string) {
	r.t.Helper()
	_, err := r.admin.Pool().Exec(r.t.Context(), sql)
	require.NoError(r.t, err)
}

func (r *role) secret(password string) string { return secretText(r.t, r.url, "app", password) }

// setPassword changes the password on the server and ends the role's sessions, so that new ones are needed.
func (r *role) setPassword(password string) {
	r.t.Helper()
	r.exec("alter role app password '" + password + "'")
	r.exec("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'app'")
}

func TestSecretsManager_AddressAndRotation(t *testing.T) {
	t.Setenv("PGHOST", "")
	r, m := newRole(t), newSecretsManager(t)
	m.set("AWSCURRENT", r.secret("one"))
	core, logs := observer.New(zapcore.InfoLevel)
	var db *pgfx.DB
	var monitor *health.Monitor
	app := fx.New(
		fx.NopLogger, rdsfx.Module, fx.Supply(zap.New(core)),
		awsauth.ProvideSecretsManager(secretID, awsauth.WithAWSConfig(m.config())),
		fx.Populate(&db, &monitor),
	)
	require.NoError(t, app.Start(within(t)))
	t.Cleanup(func() { require.NoError(t, app.Stop(context.WithoutCancel(t.Context()))) })
	user := func() (name string, err error) {
		err = db.Pool().QueryRow(t.Context(), "select current_user").Scan(&name)
		return name, err
	}
	name, err := user()
	require.NoError(t, err)
	assert.Equal(t, "app", name)
	assert.Equal(t, `secret "app/db"`, db.Target())
	assert.Equal(t, []string{"AWSCURRENT"}, m.readStages(), "one read for all connections")

	// The rotation function changes the server first; the version is promoted some seconds later.
	m.set("AWSPENDING", r.secret("two"))
	r.setPassword("two")
	require.Eventually(t, func() bool { _, err := user(); return err == nil }, eventually, 5*time.Millisecond)
	assert.Equal(t, []string{"AWSCURRENT", "AWSCURRENT", "AWSPENDING"}, m.readStages())
	m.set("AWSCURRENT", r.secret("two"))
	m.set("AWSPENDING", "")

	// The next rotation is complete when the first connection is refused.
	m.set("AWSCURRENT", r.secret("three"))
	r.setPassword("three")
	require.Eventually(t, func() bool { _, err := user(); return err == nil }, eventually, 5*time.Millisecond)

	// Secrets Manager is away: the known password goes on working.
	m.setDown(true)
	db.Reset()
	_, err = user()
	require.NoError(t, err)
	for _, entry := range logs.All() {
		for _, password := range []string{"one", "two", "three"} {
			assert.NotContains(t, fmt.Sprint(entry.ContextMap()), `"`+password)
		}
	}
	assert.NotZero(t, logs.FilterMessage("using a version of the secret").Len())
}

func TestSecretsManager_NoLockoutStorm(t *testing.T) {
	t.Parallel()
	r, m := newRole(t), newSecretsManager(t)
	m.set("AWSCURRENT", r.secret("wrong"))
	cfg := pgfx.Config{URL: r.url}
	cfg.Pool.MaxConns = 5
	db := open(t, cfg, awsauth.SecretsManager(secretID, awsauth.WithAWSConfig(m.config())))
	_, err := db.Connect(t.Context(), "")
	require.ErrorContains(t, err, `the server refused version v-AWSCURRENT (AWSCURRENT) of secret "app/db" for user app`)
	assert.Equal(t, pgfx.CauseLogin, pgfx.CauseOf(err))
	_, err = db.Connect(t.Context(), "") // reads the secret again, and tries it once more
	require.ErrorContains(t, err, "28P01")
	for range 20 {
		_, err = db.Connect(t.Context(), "")
		require.ErrorContains(t, err, "awsauth: the server refused the password of the secret; no further login before ")
		assert.Equal(t, pgfx.CauseLogin, pgfx.CauseOf(err))
		assert.NotContains(t, err.Error(), "wrong'")
	}
	assert.Equal(t, []string{"AWSCURRENT", "AWSCURRENT", "AWSPENDING"}, m.readStages())
}

func TestSecretsManager_Unavailable(t *testing.T) {
	t.Parallel()
	m := newSecretsManager(t)
	m.setDown(true)
	db := open(t, pgfx.Config{Host: "127.0.0.1"}, awsauth.SecretsManager(secretID, awsauth.WithAWSConfig(m.config())))
	_, err := db.Connect(t.Context(), "")
	require.ErrorContains(t, err, `awsauth: read secret "app/db": `)
	_, err = db.Connect(t.Context(), "")
	require.ErrorContains(t, err, `awsauth: read secret "app/db": `)
	assert.Len(t, m.readStages(), 1, "the failure is kept for some seconds")
	m.setDown(false)
	for text, want := range map[string]string{
		`{"username":"app"}`:               `awsauth: secret "app/db" cannot be used: it has no key "password"`,
		`{"password":"x","port":"hunter"}`: `its key "port" is no port number`,
		`{"password":{"hunter2":1}}`:       "it is no valid JSON object",
		"  ":                               "it is empty",
	} {
		m.set("AWSCURRENT", text)
		_, err := open(t, pgfx.Config{Host: "127.0.0.1"}, awsauth.SecretsManager(secretID, awsauth.WithAWSConfig(m.config()))).Connect(t.Context(), "")
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "hunter")
	}
	const arn = "arn:aws:secretsmanager:eu-west-1:1:secret:other"
	unreachable := aws.Config{BaseEndpoint: aws.String("http://127.0.0.1:1"), RetryMaxAttempts: 1}
	db = open(t, pgfx.Config{Host: "127.0.0.1"}, awsauth.SecretsManager(arn, awsauth.WithAWSConfig(unreachable)))
	_, err = db.Connect(t.Context(), "")
	require.ErrorContains(t, err, "awsauth: read secret \""+arn)
}
