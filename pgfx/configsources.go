package pgfx

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/typo"
)

// ConfigSource is where the value of a field of a [Config] comes from. In JSON it is the text of the constant.
type ConfigSource string

// The sources, in order of precedence. An [Endpoint] with Override precedes them all.
const (
	// SourceConfig ("config") is the Config that was passed to [Open] or supplied to Fx.
	SourceConfig ConfigSource = "config"
	// SourceEndpoint ("endpoint") is an [Endpoint], such as that of an embedded server.
	SourceEndpoint ConfigSource = "endpoint"
	// SourceEnvironment ("environment") is a variable of this database, or of the default database for a named one.
	SourceEnvironment ConfigSource = "environment"
	// SourceBase ("default database") is the Config of the default database. Only a named database has this source.
	SourceBase ConfigSource = "default database"
	// SourceDefault ("default") is the default in the field's comment.
	SourceDefault ConfigSource = "default"
)

// ConfigValue is one field of the [Config] in use and the source of its value.
type ConfigValue struct {
	// Field is the path of the field, such as Pool.MaxConns.
	Field string `json:"field"`
	// Key is the key of the field in YAML and other files, such as pool.max_conns.
	Key string `json:"key"`
	// Env is the environment variable of the field. If Source is SourceEnvironment, it is the variable that was read.
	Env string `json:"env"`
	// Value is the value as text, with secrets masked.
	Value string `json:"value"`
	// Source is where the value comes from.
	Source ConfigSource `json:"source"`
}

// ConfigValues returns every field of the configuration with its value and its source, in the order of [Config]. Secrets are
// masked. Parameters in the URL, such as pool_max_conns, are part of the URL and have no separate line.
func (db *DB) ConfigValues() []ConfigValue {
	shown := db.config
	var values []ConfigValue
	for _, s := range settings() {
		value := ConfigValue{
			Field: s.field, Key: s.key, Env: envPrefix(db.name) + s.env, Source: SourceDefault,
			Value: fmt.Sprint(s.in(&shown).Interface()),
		}
		if origin, ok := db.origins[s.field]; ok {
			value.Source = origin.source
			if origin.env != "" {
				value.Env = origin.env
			}
		}
		values = append(values, value)
	}
	return values
}

// hasAddress reports whether c itself sets where the server is.
func (c Config) hasAddress() bool { return c.URL != "" || c.Host != "" }

// isAddress reports whether a setting is part of an address or belongs to it: names, password, TLS and pooler.
func (s setting) isAddress() bool {
	group, _, _ := strings.Cut(s.field, ".")
	switch group {
	case "URL", "Host", "Port", "Database", "Username", "Password", "PasswordFile", "TLS", "TargetSessionAttrs", "Pooler":
		return true
	}
	return false
}

// hasPartOfAddress reports whether c sets a part of an address.
func (c Config) hasPartOfAddress() bool {
	return slices.ContainsFunc(settings(), func(s setting) bool { return s.isAddress() && !s.in(&c).IsZero() })
}

// withoutAddress returns c without its address.
func (c Config) withoutAddress() Config {
	for _, s := range settings() {
		if s.isAddress() {
			s.in(&c).SetZero()
		}
	}
	return c
}

// configSources are the sources that complete a [Config].
type configSources struct {
	database    string // name of the database in the application, "" for the default database
	base        Config // Config of the default database
	endpoint    Endpoint
	environment map[string]string
	// addressLater permits a Config without an address, because an Authenticator sets it.
	addressLater bool
}

// origin is the source of one field, with its variable if that is the environment.
type origin struct {
	source ConfigSource
	env    string
}

// resolvedConfig is a Config that is completed from its sources.
type resolvedConfig struct {
	config   Config
	origins  map[string]origin // by field; a field with its default is missing
	warnings []configWarning
	// usesEndpoint reports whether the address is that of an Endpoint, which includes its own credentials.
	usesEndpoint bool
}

// configWarning is an environment variable that has no effect.
type configWarning struct{ variable, reason string }

// fill sets the zero fields of r from a source. prefix is that of the source's variables, "" if it is not the environment.
func (r *resolvedConfig) fill(from Config, source ConfigSource, prefix string) {
	for _, s := range settings() {
		to, value := s.in(&r.config), s.in(&from)
		if !to.IsZero() || value.IsZero() {
			continue
		}
		to.Set(value)
		o := origin{source: source}
		if prefix != "" {
			o.env = prefix + s.env
		}
		r.origins[s.field] = o
	}
}

// resolve completes given. For each field the first source that sets it counts: given, the environment, for a named database
// also the default database. The exceptions concern the address:
//
//   - An endpoint with Override replaces the whole address, one without Override completes a Config that has none. No other
//     source adds to an endpoint.
//   - A URL in given is a whole address, so the environment adds nothing to it. To a Host in given it adds all but a URL.
//   - A named database takes a part of the default database's address only if it sets another part itself. If it sets URL or
//     Host, it takes none. SearchPath and Role belong to one database and are never inherited.
func (s configSources) resolve(given Config) (resolvedConfig, error) {
	r := resolvedConfig{origins: make(map[string]origin)}
	useEndpoint := !s.endpoint.IsZero() && (s.endpoint.Override || !given.hasAddress())
	if useEndpoint {
		r.usesEndpoint = true
		r.fill(Config{URL: s.endpoint.URL}, SourceEndpoint, "")
		given = given.withoutAddress()
	}
	r.fill(given, SourceConfig, "")
	if err := s.fillFromEnv(&r, useEndpoint); err != nil {
		return resolvedConfig{}, err
	}
	if s.database != "" {
		if err := s.fillFromDefaultDatabase(&r); err != nil {
			return resolvedConfig{}, err
		}
	}
	if !r.config.hasAddress() && (s.database != "" || !s.hasLibpqAddress()) {
		if !s.addressLater {
			return resolvedConfig{}, s.missingAddress()
		}
		r.config.Host = unknownHost
	}
	return r, nil
}

// missingAddress returns the error for a Config to which no source adds an address.
func (s configSources) missingAddress() error {
	return &ConfigError{database: s.database, Problems: []ConfigProblem{{
		Field: "URL", Key: "url", Env: envPrefix(s.database) + "URL",
		Fix: "set URL or Host, set the variable, or add embedded.Module for a local server",
	}}}
}

// fillFromEnv adds the variables of the database. Variables with a part of an address that does not count are not parsed.
func (s configSources) fillFromEnv(r *resolvedConfig, useEndpoint bool) error {
	prefix := envPrefix(s.database)
	variables := maps.Clone(s.environment)
	for _, setting := range settings() {
		variable := prefix + setting.env
		overruled := ""
		switch {
		case !setting.isAddress() || variables[variable] == "":
		case useEndpoint:
			delete(variables, variable) // it may hold the production address
		case r.config.URL != "":
			overruled = "the Config sets URL, which is the whole address"
		case r.config.Host != "" && setting.field == "URL":
			overruled = "the Config sets Host"
		}
		if overruled != "" {
			delete(variables, variable)
			r.warnings = append(r.warnings, configWarning{variable, overruled})
		}
	}
	own, err := configFromEnv(prefix, s.database, variables)
	if err != nil {
		return err
	}
	r.fill(own, SourceEnvironment, prefix)
	r.warnings = append(r.warnings, unknownVariables(prefix, s.environment)...)
	return nil
}

// fillFromDefaultDatabase adds what a named database inherits.
func (s configSources) fillFromDefaultDatabase(r *resolvedConfig) error {
	wantsAddress := r.config.hasPartOfAddress() && !r.config.hasAddress()
	inherited := func(c Config) Config {
		if !wantsAddress {
			c = c.withoutAddress()
		}
		c.SearchPath, c.Role = "", RoleAuto
		return c
	}
	r.fill(inherited(s.base), SourceBase, "")
	environment := maps.Clone(s.environment)
	for _, setting := range settings() {
		needed := wantsAddress && r.config.URL == "" && (r.config.Host == "" || setting.field != "URL")
		if setting.isAddress() && !needed { // so it cannot be wrong
			delete(environment, EnvPrefix+setting.env)
		}
	}
	base, err := configFromEnv(EnvPrefix, s.database, environment)
	if err != nil {
		return err
	}
	r.fill(inherited(base), SourceEnvironment, EnvPrefix)
	return nil
}

// hasLibpqAddress reports whether libpq's environment variables name a server.
func (s configSources) hasLibpqAddress() bool {
	return s.environment["PGHOST"] != "" || s.environment["PGSERVICE"] != ""
}

// unknownVariables returns the variables that look like a misspelled variable of a setting.
func unknownVariables(prefix string, environment map[string]string) []configWarning {
	known := make(map[string]string) // by the name without underscores
	for _, s := range settings() {
		known[strings.ReplaceAll(s.env, "_", "")] = prefix + s.env
	}
	var warnings []configWarning
	for _, variable := range slices.Sorted(maps.Keys(environment)) {
		name, ok := strings.CutPrefix(variable, prefix)
		if !ok || slices.ContainsFunc(settings(), func(s setting) bool { return s.env == name }) {
			continue
		}
		name = strings.ToUpper(strings.ReplaceAll(name, "_", ""))
		if nearest := typo.Nearest(name, slices.Sorted(maps.Keys(known))); nearest != "" {
			warnings = append(warnings, configWarning{variable, "unknown variable; did you mean " + known[nearest] + "?"})
		}
	}
	return warnings
}

// logConfig logs once where the configuration comes from, and the variables that have no effect.
func (db *DB) logConfig(warnings []configWarning) {
	bySource := make(map[ConfigSource][]string)
	for _, value := range db.ConfigValues() {
		name := value.Key
		if value.Source == SourceEnvironment {
			name = value.Env
		}
		bySource[value.Source] = append(bySource[value.Source], name)
	}
	fields := []zap.Field{zap.String("target", db.target)}
	for _, source := range []ConfigSource{SourceConfig, SourceEndpoint, SourceEnvironment, SourceBase} {
		if names := bySource[source]; len(names) > 0 {
			fields = append(fields, zap.Strings("from_"+strings.ReplaceAll(string(source), " ", "_"), names))
		}
	}
	db.logger.Info("database configured", fields...)
	for _, w := range warnings {
		db.logger.Warn("environment variable has no effect", zap.String("variable", w.variable), zap.String("reason", w.reason))
	}
}
