package pgfx_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

var update = flag.Bool("update", false, "write docs/configuration.md instead of comparing it")

// counterparts are the parameters of comparable connection managers (the names are those of Python's and of HikariCP) and
// the keys that do the same here.
func counterparts() map[string]string {
	return map[string]string{
		"host": "host", "port": "port", "database": "database", "username": "username", "password": "password",
		"pool.min_conns": "min_connections", "pool.max_conns": "max_connections", "pool.max_overflow": "max_overflow",
		"pool.acquire_timeout": "pool_timeout", "pool.max_conn_lifetime": "pool_recycle", "retry.max_attempts": "max_attempts",
		"retry.delay": "retry_delay", "retry.multiplier": "retry_backoff", "health.interval": "health_check_interval",
		"timeouts.connect": "connection_timeout",
	}
}

// TestTheConfigurationTableIsTrue holds docs/configuration.md to the fields, tags and comments of Config.
// `go test ./pgfx -run ConfigurationTable -update` writes it.
func TestTheConfigurationTableIsTrue(t *testing.T) {
	t.Parallel()
	comments := fieldComments(t)
	var rows strings.Builder
	seen := map[string]bool{}
	table(t, &rows, seen, comments, reflect.TypeFor[pgfx.Config](), "", pgfx.EnvPrefix)
	for key := range counterparts() {
		assert.True(t, seen[key], "no field has the key %s", key)
	}
	want := configurationHead + rows.String()
	const path = "../docs/configuration.md"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "run: go test ./pgfx -run ConfigurationTable -update")
}

const configurationHead = `# Configuration

Every field of ` + "`pgfx.Config`" + `. This table is made from the source and held to it by a test. Zero, or a variable that is not
set, means the default; ` + "`pgfx.Off`" + ` (-1; ` + "`-1ns`" + ` for a duration in the environment and in YAML) switches a limit off where
the meaning says so. Durations are written ` + "`30s`, `5m`, `1h`" + `. A named database reads the same variables with its name in front:
` + "`REPORTING_DATABASE_URL`" + `. The counterpart is the name of the parameter in a typical connection manager of another language.

| key (YAML, koanf, mapstructure) | environment | type | default | meaning | counterpart |
|---|---|---|---|---|---|
`

func table(t *testing.T, out *strings.Builder, seen map[string]bool, comments map[string]string, typ reflect.Type, keys, env string) {
	t.Helper()
	for field := range typ.Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		require.NotEmpty(t, key, "%s.%s has no yaml tag", typ.Name(), field.Name)
		for _, tag := range []string{"json", "koanf", "mapstructure"} {
			other, _, _ := strings.Cut(field.Tag.Get(tag), ",")
			assert.Equal(t, key, other, "%s.%s: the tags %s and yaml differ", typ.Name(), field.Name, tag)
		}
		if field.Type.Kind() == reflect.Struct {
			prefix, is := field.Tag.Lookup("envPrefix")
			require.True(t, is, "%s.%s has no envPrefix", typ.Name(), field.Name)
			table(t, out, seen, comments, field.Type, keys+key+".", env+prefix)
			continue
		}
		variable := field.Tag.Get("env")
		require.NotEmpty(t, variable, "%s.%s has no env tag", typ.Name(), field.Name)
		meaning, defaults := comments[typ.Name()+"."+field.Name], ""
		require.NotEmpty(t, meaning, "%s.%s has no comment", typ.Name(), field.Name)
		if i := strings.Index(meaning, "Default: "); i >= 0 {
			defaults, meaning = meaning[i+len("Default: "):], strings.TrimSpace(meaning[:i])
			if i := strings.Index(defaults, ". "); i >= 0 {
				defaults, meaning = defaults[:i], meaning+" "+defaults[i+2:]
			}
		}
		seen[keys+key] = true
		fmt.Fprintf(out, "| `%s` | `%s` | %s | %s | %s | %s |\n", keys+key, env+variable, typeName(field.Type),
			strings.TrimSuffix(defaults, "."), meaning, counterparts()[keys+key])
	}
}

func typeName(typ reflect.Type) string {
	switch {
	case typ.String() == "time.Duration":
		return "duration"
	case typ.Kind() == reflect.Bool:
		return "true or false"
	case typ.Kind() == reflect.String:
		return "text"
	case typ.Kind() == reflect.Float64:
		return "number"
	}
	return "whole number"
}

// fieldComments reads the comments of all struct fields of the package, in one line each.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			structure, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			last := ""
			for _, field := range structure.Fields.List {
				if field.Doc != nil {
					last = plain(field.Doc.Text())
				}
				for _, ident := range field.Names {
					comments[spec.Name.Name+"."+ident.Name] = last
				}
			}
			return true
		})
	}
	return comments
}

// plain is a comment without line breaks and links.
func plain(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, link := range []string{"[*AcquireTimeoutError]", "[*RoleError]", "[Role]", "[PoolerMode]", "[ExecMode]", "[RetryBudget]"} {
		text = strings.ReplaceAll(text, link, "`"+strings.Trim(link, "[]*")+"`")
	}
	return strings.ReplaceAll(text, "|", "\\|")
}
