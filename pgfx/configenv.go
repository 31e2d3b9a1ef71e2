package pgfx

import (
	"os"
	"reflect"
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
	return configFromEnv(prefix, env.ToMap(os.Environ()))
}

func configFromEnv(prefix string, environment map[string]string) (Config, error) {
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
	return Config{}, &ConfigError{Problems: problems}
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
}

// settings returns the fields of [Config] in their order, with the names in their tags.
func settings() []setting { return appendSettings(nil, reflect.TypeFor[Config](), setting{}) }

func appendSettings(to []setting, group reflect.Type, prefix setting) []setting {
	for field := range group.Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		s := setting{field: prefix.field + field.Name, key: prefix.key + key, env: prefix.env + field.Tag.Get("env"), typ: field.Type}
		if field.Type.Kind() == reflect.Struct {
			s.field, s.key, s.env = s.field+".", s.key+".", prefix.env+field.Tag.Get("envPrefix")
			to = appendSettings(to, field.Type, s)
			continue
		}
		to = append(to, s)
	}
	return to
}

// hasAddress reports whether c itself sets where the server is.
func (c Config) hasAddress() bool { return c.URL != "" || c.Host != "" }

// withAddressOf returns c with the address of other, and what belongs to an address: names, password, TLS and pooler.
func (c Config) withAddressOf(other Config) Config {
	c.URL, c.Host, c.Port, c.Database = other.URL, other.Host, other.Port, other.Database
	c.Username, c.Password, c.PasswordFile, c.TLS = other.Username, other.Password, other.PasswordFile, other.TLS
	c.TargetSessionAttrs, c.Pooler = other.TargetSessionAttrs, other.Pooler
	return c
}

// inherit returns c with its zero fields set from base.
//
// An address is inherited as a whole: a c with URL or Host takes no part of base's address. A c with other parts of an
// address, such as Database, replaces only those parts of base's. SearchPath and Role belong to one database and are never
// inherited.
func (c Config) inherit(base Config) Config {
	switch {
	case c.hasAddress():
		base = base.withAddressOf(Config{})
	case c.withAddressOf(Config{}) == c: // no part of an address is set, so base's address isn't meant either
		return c
	}
	base.SearchPath, base.Role = "", RoleAuto
	setZeroFields(reflect.ValueOf(&c).Elem(), reflect.ValueOf(base))
	return c
}

// setZeroFields copies the fields of from to the fields of to that are zero.
func setZeroFields(to, from reflect.Value) {
	for i := range to.NumField() {
		switch field := to.Field(i); {
		case field.Kind() == reflect.Struct:
			setZeroFields(field, from.Field(i))
		case field.IsZero():
			field.Set(from.Field(i))
		}
	}
}

// configSources are the sources that complete a [Config].
type configSources struct {
	database    string // name of the database in the application, "" for the default database
	base        Config // Config of the default database
	endpoint    Endpoint
	environment map[string]string
}

// resolve completes c with an address. In order of precedence, it comes from: an endpoint with Override, c, an endpoint, the
// environment. If c is zero, its other fields come from the environment too. A named database then inherits from base, or
// from the default database's variables if base is zero.
func (s configSources) resolve(c Config) (Config, error) {
	c, err := s.readEnv(c)
	if err != nil {
		return Config{}, err
	}
	switch {
	case !s.endpoint.IsZero() && (s.endpoint.Override || !c.hasAddress()):
		return c.withAddressOf(Config{URL: s.endpoint.URL}), nil
	case c.hasAddress(), s.database == "" && s.hasLibpqAddress():
		return c, nil
	}
	return Config{}, &ConfigError{Problems: []ConfigProblem{{
		Field: "URL", Key: "url", Env: envPrefix(s.database) + "URL",
		Fix: "set URL or Host, set the variable, or add embedded.Module for a local server",
	}}}
}

// readEnv completes c from the environment and, for a named database, from the default database.
func (s configSources) readEnv(c Config) (Config, error) {
	if !c.hasAddress() {
		own, err := configFromEnv(envPrefix(s.database), s.environment)
		if err != nil {
			return Config{}, err
		}
		if !s.endpoint.IsZero() { // the variable may hold the production address: the endpoint takes precedence
			own = own.withAddressOf(Config{})
		}
		if c == (Config{}) {
			c = own
		} else if own.hasAddress() {
			c = c.withAddressOf(own)
		}
	}
	if s.database == "" {
		return c, nil
	}
	base := s.base
	if base == (Config{}) {
		var err error
		if base, err = configFromEnv(EnvPrefix, s.environment); err != nil {
			return Config{}, err
		}
	}
	return c.inherit(base), nil
}

// hasLibpqAddress reports whether libpq's environment variables name a server.
func (s configSources) hasLibpqAddress() bool {
	return s.environment["PGHOST"] != "" || s.environment["PGSERVICE"] != ""
}

// envPrefix returns the prefix of a named database's variables: REPORTING_DATABASE_ for "reporting".
func envPrefix(database string) string {
	if database == "" {
		return EnvPrefix
	}
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(database)) + "_" + EnvPrefix
}
