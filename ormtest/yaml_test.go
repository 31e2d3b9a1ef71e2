package ormtest_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
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

// example matches an example of docs/configuration.md: the same settings in YAML and as variables.
var example = regexp.MustCompile("(?s)```yaml\n(.*?)```\n\n```text\n(.*?)```")

func TestConfigurationPage_YAMLAndVariablesAreEqual(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	examples := example.FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, examples)
	for _, match := range examples {
		var settings struct {
			Database pgfx.Config `yaml:"database"`
		}
		decoder := yaml.NewDecoder(strings.NewReader(match[1]))
		decoder.KnownFields(true)
		require.NoError(t, decoder.Decode(&settings), match[1])
		variables := map[string]string{}
		for line := range strings.Lines(match[2]) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			variables[name] = value
		}
		var fromEnv pgfx.Config
		require.NoError(t, env.ParseWithOptions(&fromEnv, env.Options{Environment: variables, Prefix: pgfx.EnvPrefix}))
		assert.Equal(t, settings.Database, fromEnv, match[1])
		assert.NotEqual(t, pgfx.Config{}, fromEnv)
	}
}
