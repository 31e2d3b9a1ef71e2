package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestRun_Migrates(t *testing.T) {
	t.Setenv("DATABASE_MIGRATE_MODE", "check") // is for the instances
	url := fxtest.URL(t)
	for range 2 {
		require.NoError(t, run(t.Context(), pgfx.Config{URL: url}))
	}
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "insert into users (email) values ('ada@example.com')")
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.WithoutCancel(t.Context())))
}

func TestRun_FailsWithoutServer(t *testing.T) {
	t.Parallel()
	require.Error(t, run(t.Context(), pgfx.Config{URL: "postgres://app@localhost:1/shop"}))
}

// TestManifest_MatchesDocumentation parses the manifest and compares it with docs/migrations.md.
func TestManifest_MatchesDocumentation(t *testing.T) {
	t.Parallel()
	manifest, err := os.ReadFile("job.yaml")
	require.NoError(t, err)
	var job struct {
		Kind string
		Spec struct {
			Template struct {
				Spec struct {
					RestartPolicy string `yaml:"restartPolicy"` //nolint:tagliatelle // Kubernetes names it
					Containers    []struct {
						Command []string
						Env     []struct{ Name string }
					}
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(manifest, &job))
	assert.Equal(t, "Job", job.Kind)
	spec := job.Spec.Template.Spec
	assert.Equal(t, "Never", spec.RestartPolicy)
	require.Len(t, spec.Containers, 1)
	assert.Equal(t, []string{"/migrationjob"}, spec.Containers[0].Command)
	assert.Equal(t, "DATABASE_URL", spec.Containers[0].Env[0].Name)

	document, err := os.ReadFile("../../docs/migrations.md")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(document), "<!-- from examples/migrationjob/job.yaml -->\n```yaml\n")
	require.True(t, found)
	block, _, _ = strings.Cut(block, "```")
	assert.Equal(t, string(manifest), block)
}
