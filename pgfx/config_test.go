package pgfx_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestConfig_ValidateNamesFieldValueAndFix(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	const address = "postgres://app@localhost/app"
	for name, test := range map[string]struct {
		config pgfx.Config
		want   string
	}{
		"malformed url": {
			pgfx.Config{URL: "postgres://app:s3cret@localhost:port/app"},
			`URL is "postgres://app:xxxxx@localhost:port/app": invalid port; write postgres://user:password@host:5432/database?sslmode=verify-full ` +
				`and percent-encode special characters`,
		},
		"other scheme": {
			pgfx.Config{URL: "mysql://app@localhost/app"},
			`URL is "mysql://app@localhost/app": begin it with postgres:// or postgresql://`,
		},
		"port too large": {pgfx.Config{URL: address, Port: 65536}, `Port is "65536": set a port from 1 to 65535, or 0 for 5432`},
		"negative port":  {pgfx.Config{URL: address, Port: -1}, `Port is "-1": set a port from 1 to 65535, or 0 for 5432`},
		"url in host":    {pgfx.Config{Host: "postgres://a:b@c/d"}, `Host is "postgres://a:xxxxx@c/d": set a host name, an IP address or a socket directory; a connection string belongs in URL`},
		"two passwords": {
			pgfx.Config{URL: address, Password: "a", PasswordFile: "doc.go"},
			`PasswordFile is "doc.go": set Password or PasswordFile, not both`,
		},
		"no password file":   {pgfx.Config{URL: address, PasswordFile: "/nowhere/pw"}, `PasswordFile is "/nowhere/pw": set the path of a readable file that holds the password (no such file or directory)`},
		"empty password":     {pgfx.Config{URL: address, PasswordFile: empty}, fmt.Sprintf("PasswordFile is %q: set the path of a readable file that holds the password (the file is empty)", empty)},
		"zero byte":          {pgfx.Config{Host: "a\x00b"}, `Host is "a\\x00b": remove the zero byte`},
		"unknown tls mode":   {pgfx.Config{URL: address, TLS: pgfx.TLSConfig{Mode: "on"}}, `TLS.Mode is "on": set one of disable, allow, prefer, require, verify-ca, verify-full`},
		"missing ca file":    {pgfx.Config{URL: address, TLS: pgfx.TLSConfig{CAFile: "/nowhere/ca.pem"}}, `TLS.CAFile is "/nowhere/ca.pem": set the path of a readable PEM file with the certificates to trust (no such file or directory)`},
		"ca file without ca": {pgfx.Config{URL: address, TLS: pgfx.TLSConfig{CAFile: empty}}, fmt.Sprintf("TLS.CAFile is %q: set the path of a PEM file with certificates, or of a directory with such files: this one has none", empty)},
		"half a certificate": {pgfx.Config{URL: address, TLS: pgfx.TLSConfig{CertFile: empty}}, fmt.Sprintf("TLS.CertFile is %q: set TLS.CertFile and TLS.KeyFile together", empty)},
		"missing key file": {
			pgfx.Config{URL: address, TLS: pgfx.TLSConfig{CertFile: empty, KeyFile: "/nowhere/key.pem"}},
			`TLS.KeyFile is "/nowhere/key.pem": set the path of a readable PEM file (no such file or directory)`,
		},
		"negative max conns":    {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxConns: -1}}, `Pool.MaxConns is "-1": set 1 or more, or 0 for the default; the pool must have a limit`},
		"too many conns":        {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxConns: 70000}}, `Pool.MaxConns is "70000": set 65535 or less`},
		"negative min conns":    {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MinConns: -1}}, `Pool.MinConns is "-1": set 0 or more`},
		"max below min":         {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxConns: 2, MinConns: 5}}, `Pool.MinConns is "5": set at most Pool.MaxConns, which is 2`},
		"negative duration":     {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{AcquireTimeout: -time.Second}}, `Pool.AcquireTimeout is "-1s": set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it`},
		"jitter below 1 s":      {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxConnLifetimeJitter: time.Millisecond}}, `Pool.MaxConnLifetimeJitter is "1ms": set 1s or more: pgxpool uses whole seconds`},
		"timeout below 1 ms":    {pgfx.Config{URL: address, Timeouts: pgfx.TimeoutConfig{Lock: time.Microsecond}}, `Timeouts.Lock is "1µs": set 1ms or more, the resolution of the server's setting`},
		"timeout too long":      {pgfx.Config{URL: address, Timeouts: pgfx.TimeoutConfig{Statement: 1000 * time.Hour}}, `Timeouts.Statement is "1000h0m0s": set at most 24 days, the limit of the server's setting`},
		"client lost too soon":  {pgfx.Config{URL: address, Timeouts: pgfx.TimeoutConfig{ClientLost: time.Second}}, `Timeouts.ClientLost is "1s": set 6s or more, because the server's keep-alive counts seconds, and at most 24 days`},
		"negative waiting":      {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxWaiting: -1}}, `Pool.MaxWaiting is "-1": set 1 or more, or 0 for no limit`},
		"negative overflow":     {pgfx.Config{URL: address, Pool: pgfx.PoolConfig{MaxOverflow: -1}}, `Pool.MaxOverflow is "-1": set a number from 0 to 65535`},
		"old tls":               {pgfx.Config{URL: address, TLS: pgfx.TLSConfig{MinVersion: "1.1"}}, `TLS.MinVersion is "1.1": set 1.2 or 1.3, or leave it empty for 1.2`},
		"unknown attributes":    {pgfx.Config{URL: address, TargetSessionAttrs: "writer"}, `TargetSessionAttrs is "writer": set one of any, read-write, read-only, primary, standby, prefer-standby`},
		"unknown role":          {pgfx.Config{URL: address, Role: "primary"}, `Role is "primary": set writer or any, or leave it empty for the default`},
		"reader role":           {pgfx.Config{URL: address, Role: "reader"}, `Role is "reader": set any: a pool accepts both a replica and the writer behind a reader endpoint`},
		"unknown start mode":    {pgfx.Config{URL: address, Start: pgfx.StartConfig{Mode: "now"}}, `Start.Mode is "now": set one of require, optional, lazy`},
		"start without end":     {pgfx.Config{URL: address, Start: pgfx.StartConfig{Timeout: pgfx.Off}}, `Start.Timeout is "-1ns": set a positive duration, or 0 for the default; it cannot be disabled`},
		"negative attempts":     {pgfx.Config{URL: address, Retry: pgfx.RetryConfig{MaxAttempts: -2}}, `Retry.MaxAttempts is "-2": set 1 or more, 0 for the default, or pgfx.Off (-1) for no limit`},
		"delay above its limit": {pgfx.Config{URL: address, Retry: pgfx.RetryConfig{Delay: time.Minute, MaxDelay: time.Second}}, `Retry.MaxDelay is "1s": set at least Retry.Delay, which is 1m0s`},
		"too large a budget":    {pgfx.Config{URL: address, Retry: pgfx.RetryConfig{Budget: 2}}, `Retry.Budget is "2": set a number from 0 to 1, 0 for the default, or pgfx.Off (-1) for no limit`},
		"shrinking delay":       {pgfx.Config{URL: address, Retry: pgfx.RetryConfig{Multiplier: 0.5}}, `Retry.Multiplier is "0.5": set a factor from 1 to 100, or 0 for the default`},
		"negative slow":         {pgfx.Config{URL: address, Stats: pgfx.StatsConfig{Slow: -2}}, `Stats.Slow is "-2ns": set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it`},
		"negative leak":         {pgfx.Config{URL: address, Stats: pgfx.StatsConfig{LongLease: -time.Minute}}, `Stats.LongLease is "-1m0s": set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it`},
		"negative statements":   {pgfx.Config{URL: address, Stats: pgfx.StatsConfig{Statements: -2}}, `Stats.Statements is "-2": set 1 or more, 0 for the default or pgfx.Off (-1) to keep none`},
		"too many statements":   {pgfx.Config{URL: address, Stats: pgfx.StatsConfig{Statements: 10001}}, `Stats.Statements is "10001": set 10000 or less`},
		"negative interval":     {pgfx.Config{URL: address, Health: pgfx.HealthConfig{Interval: -2}}, `Health.Interval is "-2ns": set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.config.Validate()
			assert.Equal(t, test.want, onlyProblem(t, err))
			_, openErr := pgfx.Open(test.config)
			require.EqualError(t, openErr, err.Error(), "Open returns the same error")
		})
	}
}

// onlyProblem returns the text of a ConfigError's only problem, without key and variable.
func onlyProblem(t *testing.T, err error) string {
	t.Helper()
	var invalid *pgfx.ConfigError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Problems, 1)
	problem := invalid.Problems[0]
	problem.Key, problem.Env = "", ""
	return problem.String()
}

func TestConfig_ValidateReportsAllProblems(t *testing.T) {
	t.Parallel()
	err := pgfx.Config{
		URL: "postgres://app@localhost/app", Port: -1,
		Pool: pgfx.PoolConfig{MaxConns: 1, MinConns: 2}, TLS: pgfx.TLSConfig{Mode: "on"},
	}.Validate()
	var invalid *pgfx.ConfigError
	require.ErrorAs(t, err, &invalid)
	fields := make([]string, 0, len(invalid.Problems))
	for _, p := range invalid.Problems {
		fields = append(fields, p.Field)
	}
	assert.Equal(t, []string{"Port", "TLS.Mode", "Pool.MinConns"}, fields)
	for _, field := range fields {
		assert.Contains(t, err.Error(), "\n  - "+field)
	}
}

func TestConfigError_NamesKeyAndVariable(t *testing.T) {
	t.Parallel()
	config := pgfx.Config{URL: "postgres://app@localhost/app", Pool: pgfx.PoolConfig{MaxConns: -1}}
	const fix = ` is "-1": set 1 or more, or 0 for the default; the pool must have a limit`
	require.EqualError(t, config.Validate(), "pgfx: invalid config: Pool.MaxConns (pool.max_conns, DATABASE_POOL_MAX_CONNS)"+fix)

	_, err := pgfx.Open(config, pgfx.WithName("reporting"))
	require.EqualError(t, err, "pgfx: invalid config of database \"reporting\": Pool.MaxConns (pool.max_conns, REPORTING_DATABASE_POOL_MAX_CONNS)"+fix)
}

func TestConfig_ZeroValueIsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, pgfx.Config{}.Validate())
	d := pgfx.Config{}.WithDefaults()
	require.NoError(t, d.Validate())
	assert.GreaterOrEqual(t, d.Pool.MaxConns, 10)
	assert.Equal(t, 30*time.Second, d.Pool.AcquireTimeout)
	assert.Equal(t, time.Hour, d.Pool.MaxConnLifetime)
	assert.Equal(t, 6*time.Minute, d.Pool.MaxConnLifetimeJitter)
	assert.Equal(t, 10*time.Second, d.Timeouts.Connect)
	assert.Equal(t, 30*time.Second, d.Health.Interval)
	assert.Equal(t, pgfx.StartRequire, d.Start.Mode)
	assert.Equal(t, pgfx.StatsConfig{Slow: time.Second, LongLease: time.Minute, Statements: 500}, d.Stats)
	assert.Equal(t, d, d.WithDefaults(), "applying defaults twice changes nothing")
}

func TestConfig_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	configs := map[string]pgfx.Config{
		"url":           {URL: "postgres://app:" + secret + "@localhost/app"},
		"url parameter": {URL: "postgres://localhost/app?password=" + secret + "&sslpassword=" + secret},
		"keyword":       {URL: "host=localhost password=" + secret + " user=app"},
		"quoted":        {URL: `host=localhost password = 'a\'` + secret + `' user=app`},
		"field":         {Host: "localhost", Password: secret},
		"bad port":      {URL: "postgres://app:" + secret + "@localhost:x/app"},
		"slash in it":   {URL: "postgres://app:a/" + secret + "@localhost/app"},
		"at in it":      {URL: "postgres://app:a@" + secret + "@localhost/app"},
		"question mark": {URL: "postgres://app:a?" + secret + "@localhost/app"},
		"blank in it":   {URL: "postgres://app:a " + secret + "@localhost/app"},
		"line break":    {URL: "postgres://app:a\n" + secret + "@localhost/app"},
		"hash in it":    {URL: "postgres://app:a#" + secret + "@localhost/app"},
		"slash in user": {URL: "postgres://a/pp:" + secret + "@localhost/app"},
		"no scheme":     {URL: "app:" + secret + "@localhost/app"},
		"half a scheme": {URL: "//app:" + secret + "@localhost/app"},
		"no host":       {URL: "postgres://app:" + secret},
		"bad escape":    {URL: "postgres://app:%zz" + secret + "@localhost/app"},
		"colon in it":   {URL: "postgres://app:a:" + secret + "@localhost:5432/app?x=y"},
		"url in host":   {Host: "postgres://app:" + secret + "@localhost/app"},
		"two hosts":     {URL: "postgres://app:" + secret + "@h1:1,h2:2/app?port=x"},
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zapcore.DebugLevel)
			zap.New(core).Info("config", zap.Any("config", config), zap.Reflect("reflected", config), zap.Stringer("text", config))
			asJSON, err := json.Marshal(map[string]any{"config": config, "pointer": &config})
			require.NoError(t, err)
			tree, err := config.MarshalYAML()
			require.NoError(t, err)
			var shown strings.Builder
			fmt.Fprintf(&shown, "%v %+v %#v %s %q %d", config, config, config, config, config, config)
			fmt.Fprintf(&shown, "%v %+v %#v %s %+v", &config, &config, struct{ C pgfx.Config }{config}, asJSON, tree)
			for _, entry := range logs.All() {
				encoded, err := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(entry.Entry, entry.Context)
				require.NoError(t, err)
				shown.Write(encoded.Bytes())
			}
			db, err := pgfx.Open(config)
			if err != nil {
				fmt.Fprintf(&shown, "%v %+v %#v", err, err, err)
			} else {
				defer func() { require.NoError(t, db.Close(t.Context())) }()
				fmt.Fprintf(&shown, "%s %v %v %+v %v", db.Target(), db, db.Config(), db.Config(), db.Start(within(t, 50*time.Millisecond)))
			}
			assert.NotContains(t, shown.String(), secret)
		})
	}
}

func TestEndpoint_MasksPassword(t *testing.T) {
	t.Parallel()
	e := pgfx.Endpoint{URL: "postgres://app:hunter2@localhost/app"}
	asJSON, err := json.Marshal(e)
	require.NoError(t, err)
	asText, err := e.MarshalText()
	require.NoError(t, err)
	text := fmt.Sprintf("%v %+v %#v %s", e, e, e, e) + string(asJSON) + string(asText)
	assert.NotContains(t, text, "hunter2")
	assert.Equal(t, 6, strings.Count(text, "postgres://app:xxxxx@localhost/app"))
}

func TestConfig_FieldsOverrideURL(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]pgfx.Config{
		"url":              {URL: "postgres://a:b@h:1/d", Host: "localhost", Port: 7, Database: "my db", Username: "o'neil", Password: `p w\'`},
		"url with params":  {URL: "postgres://a:b@h:1/d?sslmode=disable", Host: "localhost", Port: 7, Database: "my db", Username: "o'neil", Password: `p w\'`},
		"keyword":          {URL: "host=h port=1 user=a password=b dbname=d", Host: "localhost", Port: 7, Database: "my db", Username: "o'neil", Password: `p w\'`},
		"only parts":       {Host: "localhost", Port: 7, Database: "my db", Username: "o'neil", Password: `p w\'`},
		"password in file": {URL: "postgres://h/d", Host: "localhost", Port: 7, Database: "my db", Username: "o'neil", Password: `p w\'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t, config)
			cc := db.Pool().Config().ConnConfig
			assert.Equal(t, "o'neil@localhost:7/my db", db.Target())
			assert.Equal(t, `p w\'`, cc.Password)
		})
	}
}

func TestConfig_TrimsURL(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a@h:1/d", open(t, pgfx.Config{URL: "postgres://a:b@h:1/d\n"}).Target())
}

func TestConfig_URLParametersFillZeroFields(t *testing.T) {
	t.Parallel()
	const address = "postgres://a@localhost/d?pool_max_conns=7&pool_min_conns=2&pool_max_conn_idle_time=1m" +
		"&connect_timeout=3&application_name=mine"
	pool := open(t, pgfx.Config{URL: address}).Pool().Config()
	assert.EqualValues(t, 7, pool.MaxConns)
	assert.EqualValues(t, 2, pool.MinConns)
	assert.Equal(t, time.Minute, pool.MaxConnIdleTime)
	assert.Equal(t, 3*time.Second, pool.ConnConfig.ConnectTimeout)
	assert.Equal(t, "mine", pool.ConnConfig.RuntimeParams["application_name"])

	pool = open(t, pgfx.Config{
		URL: address, ApplicationName: "ours",
		Timeouts: pgfx.TimeoutConfig{Connect: time.Second, Statement: 1500 * time.Millisecond, Lock: pgfx.Off},
		Pool:     pgfx.PoolConfig{MaxConns: 3, MaxConnIdleTime: pgfx.Off, MaxConnLifetime: pgfx.Off},
	}).Pool().Config()
	assert.EqualValues(t, 3, pool.MaxConns)
	assert.EqualValues(t, 2, pool.MinConns)
	assert.Greater(t, pool.MaxConnIdleTime, 24*365*time.Hour)
	assert.Greater(t, pool.MaxConnLifetime, 24*365*time.Hour)
	assert.Equal(t, time.Second, pool.ConnConfig.ConnectTimeout)
	assert.Equal(t, "ours", pool.ConnConfig.RuntimeParams["application_name"])
	assert.Equal(t, "1500", pool.ConnConfig.RuntimeParams["statement_timeout"])
	assert.Equal(t, "0", pool.ConnConfig.RuntimeParams["lock_timeout"])
	assert.NotContains(t, pool.ConnConfig.RuntimeParams, "idle_in_transaction_session_timeout")

	err := pgfx.Config{URL: "postgres://a@localhost/d?pool_min_conns=20"}.Validate()
	require.ErrorContains(t, err, `URL (url, DATABASE_URL) is "pool_min_conns=20": set at most the pool's maximum, which is 10`)
}
