package pgfx

import (
	"errors"
	"os"
	"reflect"
	"slices"
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
	var problems []Problem
	for _, p := range params {
		value, set := environment[p.Key]
		if !set {
			continue
		}
		one := env.Options{Prefix: prefix, Environment: map[string]string{p.Key: value}}
		if _, err := env.ParseAsWithOptions[Config](one); err != nil {
			problems = append(problems, Problem{Field: p.Key, Value: value, Fix: "set it to " + expected(err)})
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
		}
	}
	return "a value of the field's type"
}

// hasAddress reports whether c itself says where the server is.
func (c Config) hasAddress() bool { return c.URL != "" || c.Host != "" }

// withAddressOf returns c with the address, and what belongs to it (names, password, TLS), of other.
func (c Config) withAddressOf(other Config) Config {
	c.URL, c.Host, c.Port, c.Database = other.URL, other.Host, other.Port, other.Database
	c.Username, c.Password, c.PasswordFile, c.TLS = other.Username, other.Password, other.PasswordFile, other.TLS
	return c
}

// libpqAddress are the variables by which libpq's environment names a server.
func libpqAddress() []string { return []string{"PGHOST", "PGSERVICE"} }

// resolve decides where the server is: an endpoint that overrides, then the Config, then an endpoint, then the
// environment. When nothing at all was supplied (c is zero) the environment gives the other settings too.
func (c Config) resolve(database string, endpoint Endpoint, environment map[string]string) (Config, error) {
	prefix := envPrefix(database)
	if c == (Config{}) || !c.hasAddress() && endpoint.IsZero() {
		fromEnv, err := configFromEnv(prefix, environment)
		if err != nil {
			return Config{}, err
		}
		if c == (Config{}) {
			c = fromEnv
			if !endpoint.IsZero() { // an address in the environment must not outdo the endpoint: it may be production's
				c = c.withAddressOf(Config{})
			}
		} else {
			c = c.withAddressOf(fromEnv)
		}
	}
	switch {
	case !endpoint.IsZero() && (endpoint.Override || !c.hasAddress()):
		return c.withAddressOf(Config{URL: endpoint.URL}), nil
	case c.hasAddress():
		return c, nil
	case slices.ContainsFunc(libpqAddress(), func(name string) bool { return environment[name] != "" }):
		return c, nil
	}
	return Config{}, &ConfigError{Problems: []Problem{{
		Field: "URL", Value: "", Fix: "supply a pgfx.Config with URL or Host, set " + prefix + "URL in the environment, " +
			"or put embedded.Module in front for a local server",
	}}}
}

// envPrefix is the prefix of a named database's variables: REPORTING_DATABASE_ for "reporting".
func envPrefix(database string) string {
	if database == "" {
		return EnvPrefix
	}
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(database)) + "_" + EnvPrefix
}
