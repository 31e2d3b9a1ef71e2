package pgfx

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connString returns c's address as a connection string for pgx: the URL with the parts that are set put behind it, where
// they win.
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
	add("sslrootcert", c.TLS.CAFile)
	add("sslcert", c.TLS.CertFile)
	add("sslkey", c.TLS.KeyFile)
	add("search_path", c.SearchPath)
	add("target_session_attrs", c.TargetSessionAttrs)

	var b strings.Builder
	address := strings.TrimSpace(c.URL) // a file or a secret it was read from often ends with a line break
	b.WriteString(address)
	isURL := strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
	separator := byte('?')
	if strings.ContainsRune(address, '?') {
		separator = '&'
	}
	for _, p := range params {
		if isURL {
			b.WriteByte(separator)
			b.WriteString(p.key + "=" + percentEncode(p.value))
			separator = '&'
		} else {
			b.WriteString(" " + p.key + "='" + keywordEscaper.Replace(p.value) + "'")
		}
	}
	return b.String()
}

// keywordEscaper escapes a value between single quotes (PostgreSQL manual, "Keyword/Value Connection Strings").
var keywordEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// percentEncode escapes every byte but letters, digits and four marks. url.QueryEscape won't do: it writes a blank as +,
// which libpq and pgx read as a plus.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

const (
	// cancelDeadline is how long a cancelled statement has to end by itself, after the server was asked to cancel it,
	// before its connection is given up.
	cancelDeadline = time.Second
	// never stands for a pgxpool duration that must not pass.
	never = 10 * 365 * 24 * time.Hour
)

// poolConfig turns c, which has its defaults and is valid, into pgxpool's configuration without hooks.
func (c Config) poolConfig(given Config) (*pgxpool.Config, error) {
	connString := c.connString()
	inURL := c.urlParams()
	pool, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, errors.New("pgfx: the connection string can't be parsed; Config.Validate says why")
	}
	// A value of ours is used when it was given, or when the URL has none.
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
	if pool.MinConns > pool.MaxConns {
		return nil, &ConfigError{Problems: []ConfigProblem{{
			Field: "URL", Value: fmt.Sprintf("pool_min_conns=%d", pool.MinConns),
			Fix: fmt.Sprintf("set at most the pool's maximum, which is %d", pool.MaxConns),
		}}}
	}

	pool.MaxConns += int32(c.Pool.MaxOverflow) //nolint:gosec // validated: at most 65535
	cc := pool.ConnConfig
	c.TLS.complete(cc)
	if given.Timeouts.Connect != 0 || cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = orElse(c.Timeouts.Connect, 0)
	}
	c.setExecMode(cc, inURL)
	cc.DialFunc = dialer(orElse(c.Timeouts.TCPUser, 0))
	c.setRuntimeParams(given, cc.RuntimeParams)
	cc.BuildContextWatcherHandler = c.cancelHandler
	return pool, nil
}

// urlParams returns the parameters of the connection string that aren't libpq's: pgxpool's, pgx's and the server's.
func (c Config) urlParams() map[string]string {
	parsed, err := pgconn.ParseConfig(c.connString())
	if err != nil { // Validate tells
		return nil
	}
	return parsed.RuntimeParams
}

// complete sets what a connection string can't say, for every address and fallback that is reached by TLS.
func (t TLSConfig) complete(cc *pgx.ConnConfig) {
	configs := []*tls.Config{cc.TLSConfig}
	for _, fallback := range cc.Fallbacks {
		configs = append(configs, fallback.TLSConfig)
	}
	for _, config := range configs {
		if config == nil {
			continue
		}
		if t.ServerName != "" {
			config.ServerName = t.ServerName
		}
		config.MinVersion = tls.VersionTLS12
		if t.MinVersion == "1.3" {
			config.MinVersion = tls.VersionTLS13
		}
	}
}

// setRuntimeParams adds what the server is told at login.
func (c Config) setRuntimeParams(given Config, params map[string]string) {
	if given.ApplicationName != "" || params["application_name"] == "" {
		params["application_name"] = c.ApplicationName
	}
	for _, setting := range c.Timeouts.settings() {
		switch {
		case setting.value > 0:
			params[setting.name] = strconv.FormatInt(setting.value.Milliseconds(), 10)
		case setting.value == Off:
			params[setting.name] = "0"
		}
	}
}

// orElse returns d, or otherwise when d is Off.
func orElse(d, otherwise time.Duration) time.Duration {
	if d == Off {
		return otherwise
	}
	return d
}
