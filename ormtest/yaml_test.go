package ormtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// file has every kind of value, and Off, which is -1ns for a duration.
const file = `
database:
  host: db.internal
  port: 6432
  database: app
  username: app
  password: hush-hush
  role: writer
  pooler: direct
  tls: {mode: verify-full, ca_file: /etc/rds.pem}
  pool:
    max_conns: 7
    max_overflow: 3
    acquire_timeout: 5s
  timeouts: {statement: 30s, validate: -1ns}
  retry: {max_attempts: 4, multiplier: 1.5, budget: 0.2}
  stats: {slow: 250ms, log: true}
`

func TestConfig_YAMLRoundTripMasksPassword(t *testing.T) {
	t.Parallel()
	var settings struct {
		Database pgfx.Config `yaml:"database"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(file), &settings))
	want := pgfx.Config{
		Host: "db.internal", Port: 6432, Database: "app", Username: "app", Password: "hush-hush", Role: pgfx.RoleWriter,
		Pooler: pgfx.PoolerDirect, TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, CAFile: "/etc/rds.pem"},
		Pool:     pgfx.PoolConfig{MaxConns: 7, MaxOverflow: 3, AcquireTimeout: 5 * time.Second},
		Timeouts: pgfx.TimeoutConfig{Statement: 30 * time.Second, Validate: pgfx.Off},
		Retry:    pgfx.RetryConfig{MaxAttempts: 4, Multiplier: 1.5, Budget: 0.2},
		Stats:    pgfx.StatsConfig{Slow: 250 * time.Millisecond, Log: true},
	}
	assert.Equal(t, want, settings.Database)

	written, err := yaml.Marshal(settings)
	require.NoError(t, err)
	for _, text := range []string{string(written), fmt.Sprint(settings), fmt.Sprintf("%+v %#v", settings, settings)} {
		assert.NotContains(t, text, "hush-hush")
	}
	var again struct {
		Database pgfx.Config `yaml:"database"`
	}
	require.NoError(t, yaml.Unmarshal(written, &again))
	want.Password = again.Database.Password
	assert.Equal(t, want, again.Database, "all other fields survive")
}
