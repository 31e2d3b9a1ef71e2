package pgfx_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestConfigFromEnv_ReadsEveryGroup(t *testing.T) { //nolint:paralleltest // sets the environment
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://localhost/app", "DATABASE_USERNAME": "app", "DATABASE_NAME": "other", "DATABASE_PORT": "6543",
		"DATABASE_TLS_MODE": "require", "DATABASE_POOL_MAX_CONNS": "12", "DATABASE_POOL_ACQUIRE_TIMEOUT": "3s",
		"DATABASE_STATEMENT_TIMEOUT": "1m", "DATABASE_START_MODE": "lazy", "DATABASE_RETRY_MULTIPLIER": "1.5", "DATABASE_HEALTH_INTERVAL": "7s",
		"DATABASE_STATS_SLOW": "2s", "DATABASE_STATS_LONG_LEASE": "-1ns", "DATABASE_STATS_STATEMENTS": "9", "DATABASE_STATS_DISABLED": "true",
		"REPORTING_DATABASE_URL": "postgres://reports/r",
	} {
		t.Setenv(name, value)
	}
	c, err := pgfx.ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, pgfx.Config{
		URL: "postgres://localhost/app", Username: "app", Database: "other", Port: 6543, TLS: pgfx.TLSConfig{Mode: pgfx.TLSRequire},
		Pool: pgfx.PoolConfig{MaxConns: 12, AcquireTimeout: 3 * time.Second}, Timeouts: pgfx.TimeoutConfig{Statement: time.Minute},
		Start: pgfx.StartConfig{Mode: pgfx.StartLazy}, Retry: pgfx.RetryConfig{Multiplier: 1.5},
		Health: pgfx.HealthConfig{Interval: 7 * time.Second},
		Stats:  pgfx.StatsConfig{Slow: 2 * time.Second, LongLease: pgfx.Off, Statements: 9, Disabled: true},
	}, c)

	c, err = pgfx.ConfigFromEnvPrefix("REPORTING_DATABASE_")
	require.NoError(t, err)
	assert.Equal(t, "postgres://reports/r", c.URL)
}

func TestConfigFromEnv_NamesVariableOfWrongType(t *testing.T) {
	t.Setenv("DATABASE_PORT", "many")
	t.Setenv("DATABASE_POOL_ACQUIRE_TIMEOUT", "5")
	t.Setenv("DATABASE_RETRY_MULTIPLIER", "x")
	t.Setenv("DATABASE_DISABLE_FAST_CODECS", "maybe")
	t.Setenv("DATABASE_PASSWORD", "hunter2")
	_, err := pgfx.ConfigFromEnv()
	require.ErrorContains(t, err, `Port (port, DATABASE_PORT) is "many": set a whole number`)
	require.ErrorContains(t, err, `Pool.AcquireTimeout (pool.acquire_timeout, DATABASE_POOL_ACQUIRE_TIMEOUT) is "5": set a duration such as "30s" or "5m"`)
	require.ErrorContains(t, err, `Retry.Multiplier (retry.multiplier, DATABASE_RETRY_MULTIPLIER) is "x": set a number`)
	require.ErrorContains(t, err, `DisableFastCodecs (disable_fast_codecs, DATABASE_DISABLE_FAST_CODECS) is "maybe": set true or false`)
	assert.NotContains(t, err.Error(), "hunter2")
	_, err = pgfx.Open(pgfx.Config{})
	require.ErrorContains(t, err, "DATABASE_PORT")
}

func TestOpen_ExplainsMissingAddress(t *testing.T) { //nolint:paralleltest // sets the environment
	for _, name := range []string{"DATABASE_URL", "DATABASE_HOST", "PGHOST", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	_, err := pgfx.Open(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 3}})
	require.EqualError(t, err, "pgfx: invalid config: URL (url, DATABASE_URL) is not set: set URL or Host, set the variable, "+
		"or add embedded.Module for a local server")
}

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

	t.Setenv("PGHOST", "libpq")
	_, err = pgfx.Open(pgfx.Config{}, pgfx.WithName("reporting"), pgfx.WithBase(base))
	require.ErrorContains(t, err, "REPORTING_DATABASE_URL", "without any setting it does not use the default database")
}
