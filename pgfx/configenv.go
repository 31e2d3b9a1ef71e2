package pgfx

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// EnvPrefix is the prefix of the variables that [ConfigFromEnv] reads: DATABASE_URL, DATABASE_POOL_MAX_CONNS and so on.
const EnvPrefix = "DATABASE_"

// ConfigFromEnv reads a [Config] from the environment variables that begin with [EnvPrefix]. It returns a [*ConfigError] if
// a variable cannot be parsed as the type of its field. It does not validate the values; see [Config.Validate].
func ConfigFromEnv() (Config, error) { return ConfigFromEnvPrefix(EnvPrefix) }

// ConfigFromEnvPrefix is like [ConfigFromEnv] with another prefix, such as "REPORTING_DATABASE_".
func ConfigFromEnvPrefix(prefix string) (Config, error) {
	return configFromEnv(prefix, "", env.ToMap(os.Environ()))
}

// configFromEnv reads variables with a prefix. An error names the database.
func configFromEnv(prefix, database string, environment map[string]string) (Config, error) {
	c, err := env.ParseAsWithOptions[Config](env.Options{Prefix: prefix, Environment: environment})
	if err == nil {
		return c, nil
	}
	// The error does not name the variables, so parse each one alone.
	var problems []ConfigProblem
	for _, s := range settings() {
		variable := prefix + s.env
		value, set := environment[variable]
		if !set {
			continue
		}
		one := env.Options{Prefix: prefix, Environment: map[string]string{variable: value}}
		if _, err := env.ParseAsWithOptions[Config](one); err != nil {
			problems = append(problems, ConfigProblem{Field: s.field, Key: s.key, Env: variable, Value: value, Fix: "set " + expected(s.typ)})
		}
	}
	return Config{}, &ConfigError{Problems: problems, database: database}
}

// expected describes the values of a type of field.
func expected(typ reflect.Type) string {
	switch typ.Kind() { //nolint:exhaustive // Config has fields of these kinds and text, which is always valid
	case reflect.Int64:
		return `a duration such as "30s" or "5m"`
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return "a valid value"
}

// setting is a field of [Config] with the names that it has elsewhere.
type setting struct {
	field string // path in Config, such as Pool.MaxConns
	key   string // path in YAML, JSON, koanf and mapstructure, such as pool.max_conns
	env   string // environment variable without its prefix, such as POOL_MAX_CONNS
	typ   reflect.Type
	index []int // of the field, for reflect.Value.FieldByIndex
}

// in returns the field of a Config.
func (s setting) in(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(s.index) }

// settings returns the fields of [Config] in their order, with the names in their tags.
func settings() []setting { return appendSettings(nil, reflect.TypeFor[Config](), setting{}) }

func appendSettings(to []setting, group reflect.Type, prefix setting) []setting {
	for field := range group.Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		s := setting{
			field: prefix.field + field.Name, key: prefix.key + key, env: prefix.env + field.Tag.Get("env"), typ: field.Type,
			index: append(slices.Clone(prefix.index), field.Index...),
		}
		if field.Type.Kind() == reflect.Struct {
			s.field, s.key, s.env = s.field+".", s.key+".", prefix.env+field.Tag.Get("envPrefix")
			to = appendSettings(to, field.Type, s)
			continue
		}
		to = append(to, s)
	}
	return to
}

// envPrefix returns the prefix of a named database's variables: REPORTING_DATABASE_ for "reporting".
func envPrefix(database string) string {
	if database == "" {
		return EnvPrefix
	}
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(database)) + "_" + EnvPrefix
}
