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
