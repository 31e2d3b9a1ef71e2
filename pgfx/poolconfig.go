package pgfx

import (
	"crypto/tls"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connString returns the address of c as a connection string for pgx. The fields that are set follow the URL, because the
// last value of a parameter counts.
func (c Config) connString() string {
	type param struct{ key, value string }
	var params []param
	add := func(key, value string) {
		if value != "" {
			params = append(params, param{key, value})
		}
	}
	add("host", c.Host)
	if c.Port != 0 {
		add("port", strconv.Itoa(c.Port))
	}
	add("dbname", c.Database)
	add("user", c.Username)
	add("password", c.Password)
	add("sslmode", string(c.TLS.Mode))
	if c.TLS.CAFile != "" { // trustCAFile reads it; a directory is no value for pgx
		params = append(params, param{"sslrootcert", ""})
	}
	add("sslcert", c.TLS.CertFile)
	add("sslkey", c.TLS.KeyFile)
	add("search_path", c.SearchPath)
	add("target_session_attrs", c.TargetSessionAttrs)

	var b strings.Builder
	address := strings.TrimSpace(c.URL) // a value read from a file or a secret often ends with a line break
	b.WriteString(address)
	separator := byte('?')
	if strings.ContainsRune(address, '?') {
		separator = '&'
	}
	for _, p := range params {
		if isURL(address) {
			b.WriteByte(separator)
			b.WriteString(p.key + "=" + percentEncode(p.value))
			separator = '&'
		} else {
			b.WriteString(" " + p.key + "='" + keywordEscaper.Replace(p.value) + "'")
		}
	}
	return b.String()
}

// isURL reports whether a connection string is in URL form, not in keyword/value form.
func isURL(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// keywordEscaper escapes a value between single quotes (PostgreSQL manual, "Keyword/Value Connection Strings").
var keywordEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// percentEncode escapes a value in the query of a URL. libpq and pgx read + as a plus sign, so a space must become %20.
func percentEncode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// never is a duration that does not elapse, for pgxpool's durations that cannot be disabled.
const never = 10 * 365 * 24 * time.Hour

// poolConfig returns pgxpool's configuration for c, without hooks. c must be given.WithDefaults(), and the fields of given
// must be valid. A field that is zero in given yields to the matching parameter of the URL. The error is pgx's and may quote
// the password.
func (c Config) poolConfig(given Config) (*pgxpool.Config, error) {
	pool, err := pgxpool.ParseConfig(c.connString())
	if err != nil {
		return nil, err //nolint:wrapcheck // callers take only the kind of problem from it
	}
	inURL := c.urlParams()
	use := func(isSet bool, param string) bool { return isSet || inURL[param] == "" }
	if use(given.Pool.MaxConns != 0, "pool_max_conns") {
		pool.MaxConns = int32(c.Pool.MaxConns) //nolint:gosec // validated: at most 65535
	}
	if use(given.Pool.MinConns != 0, "pool_min_conns") {
		pool.MinConns = int32(c.Pool.MinConns) //nolint:gosec // validated: at most MaxConns
	}
	if use(given.Pool.MaxConnLifetime != 0, "pool_max_conn_lifetime") {
		pool.MaxConnLifetime = orElse(c.Pool.MaxConnLifetime, never)
	}
	if use(given.Pool.MaxConnLifetimeJitter != 0, "pool_max_conn_lifetime_jitter") {
		pool.MaxConnLifetimeJitter = orElse(c.Pool.MaxConnLifetimeJitter, 0)
	}
	if use(given.Pool.MaxConnIdleTime != 0, "pool_max_conn_idle_time") {
		pool.MaxConnIdleTime = orElse(c.Pool.MaxConnIdleTime, never)
	}
	pool.MaxConns += int32(c.Pool.MaxOverflow) //nolint:gosec // validated: at most 65535

	cc := pool.ConnConfig
	c.TLS.apply(cc)
	if given.Timeouts.Connect != 0 || cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = orElse(c.Timeouts.Connect, 0)
	}
	c.setExecMode(cc, inURL)
	cc.DialFunc = dialer(orElse(c.Timeouts.TCPUser, 0))
	c.setRuntimeParams(given, cc.RuntimeParams)
	return pool, nil
}

// urlParams returns the parameters of the connection string that libpq does not have: those of pgxpool, pgx and the server.
func (c Config) urlParams() map[string]string {
	parsed, err := pgconn.ParseConfig(c.connString())
	if err != nil { // reported by Validate
		return nil
	}
	return parsed.RuntimeParams
}

// apply sets what a connection string cannot express, on every address and fallback that uses TLS.
func (t TLSConfig) apply(cc *pgx.ConnConfig) {
	configs, _ := tlsConfigs(cc)
	for _, config := range configs {
		if t.ServerName != "" {
			config.ServerName = t.ServerName
		}
		config.MinVersion = tls.VersionTLS12
		if t.MinVersion == "1.3" {
			config.MinVersion = tls.VersionTLS13
		}
	}
}

// setRuntimeParams adds the settings that are sent to the server at login.
func (c Config) setRuntimeParams(given Config, params map[string]string) {
	if given.ApplicationName != "" || params["application_name"] == "" {
		params["application_name"] = c.ApplicationName
	}
	for _, timeout := range c.Timeouts.serverTimeouts() {
		switch {
		case timeout.value > 0:
			params[timeout.setting] = strconv.FormatInt(timeout.value.Milliseconds(), 10)
		case timeout.value == Off:
			params[timeout.setting] = "0"
		}
	}
}

// orElse returns d, or off if d is Off.
func orElse(d, off time.Duration) time.Duration {
	if d == Off {
		return off
	}
	return d
}
