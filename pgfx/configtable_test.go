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
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

var update = flag.Bool("update", false, "write docs/configuration.md instead of comparing it")

// counterparts returns the parameters of comparable connection managers (SQLAlchemy, HikariCP) by the key with the same effect.
func counterparts() map[string]string {
	return map[string]string{
		"host": "host", "port": "port", "database": "database", "username": "username", "password": "password",
		"pool.min_conns": "min_connections", "pool.max_conns": "max_connections", "pool.max_overflow": "max_overflow",
		"pool.acquire_timeout": "pool_timeout", "pool.max_conn_lifetime": "pool_recycle", "retry.max_attempts": "max_attempts",
		"retry.delay": "retry_delay", "retry.multiplier": "retry_backoff", "health.interval": "health_check_interval",
		"timeouts.connect": "connection_timeout",
	}
}

// TestConfigurationTable_MatchesConfig compares docs/configuration.md with the fields, tags and comments of Config.
// `go test ./pgfx -run ConfigurationTable -update` writes it.
func TestConfigurationTable_MatchesConfig(t *testing.T) {
	t.Parallel()
	want := configurationHead + configurationTable(t)
	const path = "../docs/configuration.md"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "run: go test ./pgfx -run ConfigurationTable -update")
}

func TestConfig_TagsAgree(t *testing.T) {
	t.Parallel()
	var check func(group reflect.Type)
	check = func(group reflect.Type) {
		for field := range group.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			assert.NotEmpty(t, key, "%s.%s has no yaml tag", group.Name(), field.Name)
			for _, tag := range []string{"json", "koanf", "mapstructure"} {
				other, _, _ := strings.Cut(field.Tag.Get(tag), ",")
				assert.Equal(t, key, other, "%s.%s: the tags %s and yaml differ", group.Name(), field.Name, tag)
			}
			envTag := "env"
			if field.Type.Kind() == reflect.Struct {
				envTag = "envPrefix"
				check(field.Type)
			}
			_, has := field.Tag.Lookup(envTag)
			assert.True(t, has, "%s.%s has no tag %s", group.Name(), field.Name, envTag)
		}
	}
	check(reflect.TypeFor[pgfx.Config]())

	params, err := env.GetFieldParamsWithOptions(&pgfx.Config{}, env.Options{Prefix: pgfx.EnvPrefix})
	require.NoError(t, err)
	names, _ := pgfx.Settings()
	require.Len(t, names, len(params))
	for i, param := range params {
		assert.Equal(t, param.Key, names[i][2], "the variable that is read and the one in errors and in the table")
	}
}

const configurationHead = `# Configuration

This page lists every field of ` + "`pgfx.Config`" + `, by groups. It is generated from the source; a test keeps it up to date.

- Zero, or a variable that is not set, means the default.
- ` + "`pgfx.Off`" + ` is -1. Where the meaning mentions Off, it disables a limit or a feature. Write ` + "`-1ns`" + ` for a duration in YAML and in
  the environment.
- Durations are written ` + "`30s`, `5m` or `1h`" + `; in JSON they are numbers of nanoseconds.
- The first source that sets a field counts. The order is: the ` + "`pgfx.Config`" + ` in code, the environment, the default. A named
  database inherits from the Config of the default database, then from its variables, before the default.
- A URL is a whole address: if the Config sets URL, the environment adds no part of an address. If it sets Host, the
  environment adds the other parts, but no URL.
- The start logs which fields come from where ("database configured"). It warns of variables that have no effect, and of
  unknown names that are close to a known one, such as ` + "`DATABASE_POOL_MAXCONN`" + `. Other unknown names are not reported.
  ` + "`DB.ConfigValues`" + ` returns each field with its value and its source, secrets masked.
- A named database reads the same variables with its name as a prefix, for example ` + "`REPORTING_DATABASE_URL`" + `.
- The counterpart is the name of the parameter in comparable connection managers (SQLAlchemy, HikariCP).

The environment needs no code. For a file, make ` + "`pgfx.Config`" + ` a field of your settings, here with the key ` + "`database`" + `,
and pass it on: ` + "`fx.Supply(settings.Database)`" + `. The tags ` + "`yaml`, `json`, `koanf` and `mapstructure`" + ` have the same keys.

To configure the local server of ` + "`pgfx/embedded`" + `, see the variables in [testing.md](testing.md#in-ci).
`

// configGroup is a section of docs/configuration.md.
type configGroup struct {
	title, intro string
	keys         []string // prefixes of keys
	example      [][2]string
}

func configGroups() []configGroup {
	return []configGroup{
		{
			"Address and login", "One URL, or its parts. Keep secrets in variables or files, outside the repository of your code.",
			[]string{"url", "host", "port", "database", "username", "password", "password_file", "application_name", "target_session_attrs"},
			[][2]string{{"host", "db.internal"}, {"database", "shop"}, {"username", "shop"}, {"password_file", "/run/secrets/db"}},
		},
		{
			"Sessions", "The use of the server, and the pooler in front of it.",
			[]string{"search_path", "role", "pooler", "exec_mode", "statement_cache", "disable_fast_codecs"},
			[][2]string{{"search_path", "shop"}, {"role", "writer"}, {"pooler", "transaction"}},
		},
		{
			"TLS", "Encryption and the check of the server's certificate. [rds-aurora.md](rds-aurora.md) has the certificates of RDS.",
			[]string{"tls."},
			[][2]string{{"tls.mode", "verify-full"}, {"tls.ca_file", "/etc/ssl/rds/global-bundle.pem"}},
		},
		{
			"Pool", "The number of connections, the wait for one, and their lifetime. [scaling.md](scaling.md) has the arithmetic.",
			[]string{"pool."},
			[][2]string{{"pool.max_conns", "20"}, {"pool.min_conns", "2"}, {"pool.acquire_timeout", "2s"}, {"pool.max_waiting", "200"}},
		},
		{
			"Timeouts", "Limits of single operations. The deadline of a ctx applies as well.",
			[]string{"timeouts."},
			[][2]string{{"timeouts.statement", "10s"}, {"timeouts.lock", "2s"}, {"timeouts.idle_in_transaction", "1m"}},
		},
		{
			"Start", "The behavior of the application if the database is away when it starts.",
			[]string{"start."},
			[][2]string{{"start.mode", "optional"}, {"start.timeout", "30s"}},
		},
		{
			"Retry", "Attempts to connect, and of reads outside transactions. Writes are not retried.",
			[]string{"retry."},
			[][2]string{{"retry.max_attempts", "5"}, {"retry.delay", "100ms"}},
		},
		{
			"Health", "The monitor's probes. [health.md](health.md) describes the states.",
			[]string{"health."},
			[][2]string{{"health.interval", "10s"}, {"health.timeout", "2s"}},
		},
		{
			"Statistics", "Measurements and logs of each statement and lease.",
			[]string{"stats."},
			[][2]string{{"stats.slow", "250ms"}, {"stats.long_lease", "-1ns"}},
		},
	}
}

func (g configGroup) contains(key string) bool {
	return slices.ContainsFunc(g.keys, func(prefix string) bool {
		return key == prefix || strings.HasSuffix(prefix, ".") && strings.HasPrefix(key, prefix)
	})
}

func configurationTable(t *testing.T) string {
	t.Helper()
	comments := fieldComments(t)
	names, types := pgfx.Settings()
	known, variables := map[string]bool{}, map[string]string{}
	for _, name := range names {
		variables[name[1]] = name[2]
	}
	var out strings.Builder
	for _, group := range configGroups() {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n%s\n", group.title, group.intro, group.examples(t, variables))
		out.WriteString("| key | environment | type | default | meaning | counterpart |\n|---|---|---|---|---|---|\n")
		for i, name := range names {
			field, key, variable := name[0], name[1], name[2]
			if known[key] || !group.contains(key) {
				continue
			}
			known[key] = true
			meaning, defaults := comments[field], ""
			require.NotEmpty(t, meaning, "%s has no comment", field)
			if i := strings.Index(meaning, "Default: "); i >= 0 {
				defaults, meaning = meaning[i+len("Default: "):], strings.TrimSpace(meaning[:i])
				if i := strings.Index(defaults, ". "); i >= 0 {
					defaults, meaning = defaults[:i], meaning+" "+defaults[i+2:]
				}
			}
			fmt.Fprintf(&out, "| `%s` | `%s` | %s | %s | %s | %s |\n", key, variable, typeName(types[i]),
				strings.TrimSuffix(defaults, "."), meaning, counterparts()[key])
		}
	}
	for _, name := range names {
		assert.True(t, known[name[1]], "no group contains the key %s", name[1])
	}
	for key := range counterparts() {
		assert.True(t, known[key], "no field has the key %s", key)
	}
	return out.String()
}

// examples returns the example of a group in YAML and as environment variables. A test in ormtest reads both.
func (g configGroup) examples(t *testing.T, variables map[string]string) string {
	t.Helper()
	var yaml, environment strings.Builder
	yaml.WriteString("database:\n")
	parent := ""
	for _, setting := range g.example {
		key, value := setting[0], setting[1]
		require.Contains(t, variables, key)
		fmt.Fprintf(&environment, "%s=%s\n", variables[key], value)
		group, name, nested := strings.Cut(key, ".")
		if !nested {
			fmt.Fprintf(&yaml, "  %s: %s\n", key, value)
			continue
		}
		if group != parent {
			fmt.Fprintf(&yaml, "  %s:\n", group)
			parent = group
		}
		fmt.Fprintf(&yaml, "    %s: %s\n", name, value)
	}
	return "```yaml\n" + yaml.String() + "```\n\n```text\n" + environment.String() + "```\n"
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

// fieldComments returns the comments of the fields of Config, each as one line, by the path of the field.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	structs := map[string]*ast.StructType{}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.TypeSpec); ok {
				if structure, ok := spec.Type.(*ast.StructType); ok {
					structs[spec.Name.Name] = structure
				}
			}
			return true
		})
	}
	comments := map[string]string{}
	var add func(path, structName string)
	add = func(path, structName string) {
		for _, field := range structs[structName].Fields.List {
			for _, name := range field.Names {
				comments[path+name.Name] = oneLine(field.Doc.Text())
				if group, ok := field.Type.(*ast.Ident); ok && structs[group.Name] != nil {
					add(path+name.Name+".", group.Name)
				}
			}
		}
	}
	add("", "Config")
	return comments
}

// link is a doc link such as [Role] or [*RoleError].
var link = regexp.MustCompile(`\[\*?([A-Z][A-Za-z.]*)\]`)

// oneLine returns a comment without line breaks and with doc links as code.
func oneLine(text string) string {
	text = link.ReplaceAllString(strings.Join(strings.Fields(text), " "), "`$1`")
	return strings.ReplaceAll(text, "|", "\\|")
}
