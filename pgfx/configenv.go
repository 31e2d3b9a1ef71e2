package pgfx

import (
	"errors"
	"os"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// EnvPrefix is the prefix of the environment variables that [ConfigFromEnv] reads: DATABASE_URL, DATABASE_POOL_MAX_CONNS
// and so on.
const EnvPrefix = "DATABASE_"

// ConfigFromEnv reads a [Config] from the variables whose names begin with [EnvPrefix]. A variable that cannot be read as
// the type of its field is an error that names the variable; the values themselves are checked by [Config.Validate].
func ConfigFromEnv() (Config, error) { return ConfigFromEnvPrefix(EnvPrefix) }

// ConfigFromEnvPrefix is [ConfigFromEnv] for another prefix, such as "REPORTING_DATABASE_".
func ConfigFromEnvPrefix(prefix string) (Config, error) {
	return configFromEnv(prefix, env.ToMap(os.Environ()))
}

func configFromEnv(prefix string, environment map[string]string) (Config, error) {
	opts := env.Options{Prefix: prefix, Environment: environment}
	c, err := env.ParseAsWithOptions[Config](opts)
	if err == nil {
		return c, nil
	}
	params, paramsErr := env.GetFieldParamsWithOptions(&Config{}, opts)
	if paramsErr != nil {
		return Config{}, errors.New("pgfx: " + paramsErr.Error())
	}
	var problems []ConfigProblem
	for _, p := range params {
		value, set := environment[p.Key]
		if !set {
			continue
		}
		one := env.Options{Prefix: prefix, Environment: map[string]string{p.Key: value}}
		if _, err := env.ParseAsWithOptions[Config](one); err != nil {
			problems = append(problems, ConfigProblem{Field: p.Key, Value: value, Fix: "set it to " + expected(err)})
		}
	}
	return Config{}, &ConfigError{Problems: problems}
}

// expected says in words what a variable of the type named in err must look like.
func expected(err error) string {
	if parse, ok := errors.AsType[env.ParseError](err); ok {
		switch parse.Type.Kind() { //nolint:exhaustive // the other kinds don't occur in Config
		case reflect.Int64:
			return `a duration such as "30s" or "5m"`
		case reflect.Int:
			return "a whole number"
		case reflect.Float64:
			return "a number"
		case reflect.Bool:
			return "true or false"
		}
	}
	return "a value of the field's type"
}

// hasAddress reports whether c itself says where the server is.
func (c Config) hasAddress() bool { return c.URL != "" || c.Host != "" }

// withAddressOf returns c with the address, and what belongs to it (names, password, TLS, pooler), of other.
func (c Config) withAddressOf(other Config) Config {
	c.URL, c.Host, c.Port, c.Database = other.URL, other.Host, other.Port, other.Database
	c.Username, c.Password, c.PasswordFile, c.TLS = other.Username, other.Password, other.PasswordFile, other.TLS
	c.TargetSessionAttrs, c.Pooler = other.TargetSessionAttrs, other.Pooler
	return c
}

// inherit returns c with everything that it leaves open taken from base. The address, with names, password and TLS, is one
// thing: a c that has a URL or a Host takes nothing of base's; one that has other parts of it, such as Database, puts them
// in place of base's. SearchPath and Role belong to one database and are never inherited.
func (c Config) inherit(base Config) Config {
	switch {
	case c.hasAddress():
		base = base.withAddressOf(Config{})
	case c.withAddressOf(Config{}) == c: // nothing of an address: not even base's is meant
		return c
	}
	base.SearchPath, base.Role = "", RoleAuto
	fill(reflect.ValueOf(&c).Elem(), reflect.ValueOf(base))
	return c
}

// fill sets the zero fields of a struct to those of another.
func fill(into, from reflect.Value) {
	for i := range into.NumField() {
		switch field := into.Field(i); {
		case field.Kind() == reflect.Struct:
			fill(field, from.Field(i))
		case field.IsZero():
			field.Set(from.Field(i))
		}
	}
}

// surroundings are what a Config that leaves things open is completed from.
type surroundings struct {
	database    string // its name in the application
	base        Config // the default database's
	endpoint    Endpoint
	environment map[string]string
}

// complete decides where the server is: an endpoint that overrides, then the Config, then an endpoint, then the
// environment. When nothing at all was supplied (c is zero) the environment gives the other settings too. A named database
// inherits from base, or from what the environment says of the default database.
func (s surroundings) complete(c Config) (Config, error) {
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
		Field: "URL", Value: "", Fix: "supply a pgfx.Config with URL or Host, set " + envPrefix(s.database) + "URL in the environment, " +
			"or put embedded.Module in front for a local server",
	}}}
}

// readEnv takes from the environment what c leaves open, and from the default database what is left open then.
func (s surroundings) readEnv(c Config) (Config, error) {
	if !c.hasAddress() { // else nobody needs the environment
		own, err := configFromEnv(envPrefix(s.database), s.environment)
		if err != nil {
			return Config{}, err
		}
		if !s.endpoint.IsZero() { // an address in the environment must not outdo the endpoint: it may be production's
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

// hasLibpqAddress reports whether libpq's environment names a server.
func (s surroundings) hasLibpqAddress() bool {
	return s.environment["PGHOST"] != "" || s.environment["PGSERVICE"] != ""
}

// envPrefix is the prefix of a named database's variables: REPORTING_DATABASE_ for "reporting".
func envPrefix(database string) string {
	if database == "" {
		return EnvPrefix
	}
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(database)) + "_" + EnvPrefix
}
