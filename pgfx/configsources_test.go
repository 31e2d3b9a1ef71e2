package pgfx_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestConfig_AddressPrecedence(t *testing.T) {
	endpoint := pgfx.Endpoint{URL: "postgres://u@endpoint/d"}
	override := pgfx.Endpoint{URL: "postgres://u@endpoint/d", Override: true}
	for name, test := range map[string]struct {
		config   pgfx.Config
		endpoint pgfx.Endpoint
		env      map[string]string
		want     string
	}{
		"config":                       {pgfx.Config{URL: "postgres://u@config/d"}, pgfx.Endpoint{}, nil, "u@config:5432/d"},
		"config before endpoint":       {pgfx.Config{URL: "postgres://u@config/d"}, endpoint, nil, "u@config:5432/d"},
		"overriding endpoint":          {pgfx.Config{URL: "postgres://u@config/d", Username: "v"}, override, nil, "u@endpoint:5432/d"},
		"endpoint without config":      {pgfx.Config{}, endpoint, nil, "u@endpoint:5432/d"},
		"endpoint before environment":  {pgfx.Config{}, endpoint, map[string]string{"DATABASE_URL": "postgres://u@env/d"}, "u@endpoint:5432/d"},
		"endpoint completes config":    {pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 3}}, endpoint, nil, "u@endpoint:5432/d"},
		"environment":                  {pgfx.Config{}, pgfx.Endpoint{}, map[string]string{"DATABASE_URL": "postgres://u@env/d"}, "u@env:5432/d"},
		"environment completes config": {pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 3}}, pgfx.Endpoint{}, map[string]string{"DATABASE_HOST": "env", "DATABASE_USERNAME": "u", "DATABASE_NAME": "d"}, "u@env:5432/d"},
		"libpq":                        {pgfx.Config{}, pgfx.Endpoint{}, map[string]string{"PGHOST": "libpq", "PGUSER": "u", "PGDATABASE": "d"}, "u@libpq:5432/d"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, unset := range []string{"DATABASE_URL", "DATABASE_HOST", "PGHOST", "PGSERVICE"} {
				t.Setenv(unset, "")
			}
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			db, err := pgfx.Open(test.config, pgfx.WithEndpoint(test.endpoint))
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close(t.Context())) }()
			assert.Equal(t, test.want, db.Target())
		})
	}
}

func TestConfig_NamedDatabaseInherits(t *testing.T) {
	base := pgfx.Config{
		URL: "postgres://u:pw@base/d", Role: pgfx.RoleWriter, SearchPath: "app", TLS: pgfx.TLSConfig{Mode: pgfx.TLSRequire},
		Pool: pgfx.PoolConfig{MaxConns: 7, MinConns: 1}, Timeouts: pgfx.TimeoutConfig{Lock: time.Second},
	}
	for name, test := range map[string]struct {
		config pgfx.Config
		env    map[string]string
		target string
		conns  int
	}{
		"another address":          {pgfx.Config{URL: "postgres://r@reports/r"}, nil, "r@reports:5432/r", 7},
		"another database":         {pgfx.Config{Database: "reports"}, nil, "u@base:5432/reports", 7},
		"another size":             {pgfx.Config{Database: "reports", Pool: pgfx.PoolConfig{MaxConns: 3}}, nil, "u@base:5432/reports", 3},
		"database by environment":  {pgfx.Config{}, map[string]string{"REPORTING_DATABASE_NAME": "reports"}, "u@base:5432/reports", 7},
		"address by environment":   {pgfx.Config{}, map[string]string{"REPORTING_DATABASE_URL": "postgres://r@reports/r"}, "r@reports:5432/r", 7},
		"own size, address in env": {pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 4}}, map[string]string{"REPORTING_DATABASE_URL": "postgres://r@reports/r"}, "r@reports:5432/r", 4},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			db, err := pgfx.Open(test.config, pgfx.WithBase(base), pgfx.WithName("reporting"))
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close(t.Context())) }()
			c := db.Config()
			assert.Equal(t, test.target, db.Target())
			assert.Equal(t, test.conns, c.Pool.MaxConns)
			assert.Equal(t, time.Second, c.Timeouts.Lock)
			assert.Equal(t, pgfx.RoleAuto, c.Role)
			assert.Empty(t, c.SearchPath)
			if db.Config().Host == "" && c.URL != base.URL {
				assert.Empty(t, c.TLS.Mode, "TLS settings belong to the address")
			}
		})
	}
	t.Setenv("DATABASE_URL", "postgres://u@env/d")
	db, err := pgfx.Open(pgfx.Config{Database: "reports"}, pgfx.WithName("reporting"))
	require.NoError(t, err)
	assert.Equal(t, "u@env:5432/reports", db.Target(), "variables of the default database are the base")
	require.NoError(t, db.Close(t.Context()))

	t.Setenv("DATABASE_USERNAME", "env-user")
	t.Setenv("DATABASE_PASSWORD", "env-password")
	db, err = pgfx.Open(pgfx.Config{Database: "reports"}, pgfx.WithName("reporting"), pgfx.WithBase(pgfx.Config{Host: "base"}))
	require.NoError(t, err)
	assert.Equal(t, "env-user@base:5432/reports", db.Target(), "the variables complete the base's Host")
	assert.Equal(t, "env-password", db.Config().Password)
	require.NoError(t, db.Close(t.Context()))

	t.Setenv("PGHOST", "libpq")
	_, err = pgfx.Open(pgfx.Config{}, pgfx.WithName("reporting"), pgfx.WithBase(base))
	require.ErrorContains(t, err, "REPORTING_DATABASE_URL", "without any setting it does not use the default database")
}

// clearEnv unsets the variables that a developer's shell may have.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, name := range []string{"DATABASE_URL", "DATABASE_HOST", "PGHOST", "PGSERVICE"} {
		t.Setenv(name, "")
	}
}

// sourcesOf returns the values of a DB by field.
func sourcesOf(t *testing.T, db *pgfx.DB) map[string]pgfx.ConfigValue {
	t.Helper()
	values := make(map[string]pgfx.ConfigValue)
	for _, value := range db.ConfigValues() {
		values[value.Field] = value
	}
	return values
}

func TestConfigValues_EachFieldHasItsSource(t *testing.T) {
	clearEnv(t)
	t.Setenv("REPORTING_DATABASE_PASSWORD", "hunter2")
	t.Setenv("REPORTING_DATABASE_POOL_MIN_CONNS", "2")
	t.Setenv("REPORTING_DATABASE_POOL_MAX_CONNS", "50")
	t.Setenv("DATABASE_LOCK_TIMEOUT", "3s")
	db, err := pgfx.Open(
		pgfx.Config{Host: "db", Database: "reports", Pool: pgfx.PoolConfig{MaxConns: 5}},
		pgfx.WithName("reporting"), pgfx.WithBase(pgfx.Config{Host: "base", Username: "u", Health: pgfx.HealthConfig{Timeout: time.Second}}),
	)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(t.Context())) }()
	values := sourcesOf(t, db)
	for field, want := range map[string]pgfx.ConfigValue{
		"Host":           {Key: "host", Env: "REPORTING_DATABASE_HOST", Value: "db", Source: pgfx.SourceConfig},
		"Username":       {Key: "username", Env: "REPORTING_DATABASE_USERNAME", Value: "", Source: pgfx.SourceDefault},
		"Password":       {Key: "password", Env: "REPORTING_DATABASE_PASSWORD", Value: "xxxxx", Source: pgfx.SourceEnvironment},
		"Pool.MaxConns":  {Key: "pool.max_conns", Env: "REPORTING_DATABASE_POOL_MAX_CONNS", Value: "5", Source: pgfx.SourceConfig},
		"Pool.MinConns":  {Key: "pool.min_conns", Env: "REPORTING_DATABASE_POOL_MIN_CONNS", Value: "2", Source: pgfx.SourceEnvironment},
		"Timeouts.Lock":  {Key: "timeouts.lock", Env: "DATABASE_LOCK_TIMEOUT", Value: "3s", Source: pgfx.SourceEnvironment},
		"Health.Timeout": {Key: "health.timeout", Env: "REPORTING_DATABASE_HEALTH_TIMEOUT", Value: "1s", Source: pgfx.SourceBase},
		"Retry.Delay":    {Key: "retry.delay", Env: "REPORTING_DATABASE_RETRY_DELAY", Value: "200ms", Source: pgfx.SourceDefault},
	} {
		want.Field = field
		assert.Equal(t, want, values[field])
	}
}

func TestConfig_EnvironmentCompletesEveryField(t *testing.T) {
	clearEnv(t)
	t.Setenv("DATABASE_URL", "postgres://u@env/d")
	t.Setenv("DATABASE_POOL_MAX_CONNS", "50")
	db, err := pgfx.Open(pgfx.Config{Pool: pgfx.PoolConfig{MinConns: 1}})
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()))
	assert.Equal(t, "u@env:5432/d", db.Target())
	assert.Equal(t, 50, db.Config().Pool.MaxConns, "a Config without an address takes more than the address")
	assert.Equal(t, 1, db.Config().Pool.MinConns)
}

func TestConfig_ReportsVariablesWithoutEffect(t *testing.T) { //nolint:paralleltest // sets the environment
	clearEnv(t)
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://u@env/d", "DATABASE_PORT": "tcp://10.0.0.1:5432", // as Kubernetes sets it for a service "database"
		"DATABASE_POOL_MAXCONNS": "50", "DATABASE_POOL_MAX_CONN": "50", "DATABASE_STATEMNT_TIMEOUT": "1s", "DATABASE_SERVICE_HOST": "10.0.0.1",
	} {
		t.Setenv(name, value)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	cfg := serverConfig()
	cfg.Pool.MaxConns = 3
	db := started(t, cfg, pgfx.WithLogger(zap.New(core)))
	assert.Equal(t, 3, db.Config().Pool.MaxConns)
	got := make(map[string]any)
	for _, line := range logs.FilterMessage("environment variable has no effect").All() {
		assert.Equal(t, zapcore.WarnLevel, line.Level)
		got[line.ContextMap()["variable"].(string)] = line.ContextMap()["reason"]
	}
	assert.Equal(t, map[string]any{
		"DATABASE_URL":              "the Config sets URL, which is the whole address",
		"DATABASE_PORT":             "the Config sets URL, which is the whole address",
		"DATABASE_POOL_MAXCONNS":    "unknown variable; did you mean DATABASE_POOL_MAX_CONNS?",
		"DATABASE_POOL_MAX_CONN":    "unknown variable; did you mean DATABASE_POOL_MAX_CONNS?",
		"DATABASE_STATEMNT_TIMEOUT": "unknown variable; did you mean DATABASE_STATEMENT_TIMEOUT?",
	}, got)
	configured := logs.FilterMessage("database configured").All()
	require.Len(t, configured, 1, "logged once")
	assert.Equal(t, []any{"url", "pool.max_conns"}, configured[0].ContextMap()["from_config"])

	host, err := pgfx.Open(pgfx.Config{Host: "db"})
	require.ErrorContains(t, err, "DATABASE_PORT", "a Host takes the other parts from the environment")
	assert.Nil(t, host)
}
