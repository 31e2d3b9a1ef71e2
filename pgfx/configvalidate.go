package pgfx

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Problem is one thing that is wrong with a [Config].
type ConfigProblem struct {
	// Field is the field's path in Config, such as Pool.MaxConns, or the name of an environment variable.
	Field string
	// Value is the offending value as text, masked where it may hold a secret.
	Value string
	// Fix says what to set instead.
	Fix string
}

func (p ConfigProblem) String() string {
	if p.Value == "" {
		return p.Field + " is not set: " + p.Fix
	}
	return fmt.Sprintf("%s is %q: %s", p.Field, p.Value, p.Fix)
}

// ConfigError reports everything that is wrong with a [Config] or a [RetryPolicy], all at once.
type ConfigError struct {
	// Problems holds at least one entry.
	Problems []ConfigProblem

	what string // "" for a Config
}

func (e *ConfigError) Error() string {
	what := cmp.Or(e.what, "config")
	if len(e.Problems) == 1 {
		return "pgfx: invalid " + what + ": " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pgfx: invalid %s, %d problems:", what, len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  - " + p.String())
	}
	return b.String()
}

// Validate reports all problems of c at once as a [*ConfigError], naming for each the field, its value and the fix. It
// reads the files that c names, so that a missing one is found here; it opens no connection. A missing address is not a
// problem for Validate, because it may come from an [Endpoint] or the environment.
func (c Config) Validate() error {
	v := &validator{}
	v.address(c)
	v.tls(c.TLS)
	v.pool(c.Pool)
	v.timeouts(c.Timeouts)
	v.start(c)
	v.stats(c.Stats)
	v.execMode(c)
	if len(v.problems) == 0 {
		v.parse(c)
	}
	if len(v.problems) > 0 {
		return &ConfigError{Problems: v.problems}
	}
	return nil
}

type validator struct{ problems []ConfigProblem }

func (v *validator) add(field string, value any, fix string) {
	v.problems = append(v.problems, ConfigProblem{Field: field, Value: fmt.Sprint(value), Fix: fix})
}

const maxPort = 65535

func (v *validator) address(c Config) {
	if c.Port < 0 || c.Port > maxPort {
		v.add("Port", c.Port, "set a port from 1 to 65535, or 0 for 5432")
	}
	if strings.Contains(c.Host, "://") {
		v.add("Host", redact.ConnString(c.Host), "put a connection string into URL; Host takes a host name, an address or a socket directory")
	}
	if c.Password != "" && c.PasswordFile != "" {
		v.add("PasswordFile", c.PasswordFile, "set Password or PasswordFile, not both")
	}
	if c.PasswordFile != "" {
		if _, err := readPassword(c.PasswordFile); err != nil {
			v.add("PasswordFile", c.PasswordFile, "name a readable file that holds the password ("+reason(err)+")")
		}
	}
	for _, text := range []struct{ field, value string }{
		{"Host", c.Host},
		{"Database", c.Database},
		{"Username", c.Username},
		{"ApplicationName", c.ApplicationName},
		{"SearchPath", c.SearchPath},
	} {
		if strings.ContainsRune(text.value, 0) {
			v.add(text.field, strings.ReplaceAll(text.value, "\x00", `\x00`), "remove the zero byte")
		}
	}
	attrs := []string{"", "any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
	if !slices.Contains(attrs, c.TargetSessionAttrs) {
		v.add("TargetSessionAttrs", c.TargetSessionAttrs, "set one of any, read-write, read-only, primary, standby, prefer-standby")
	}
	if !slices.Contains([]Role{RoleAuto, RoleWriter, RoleReader, RoleAny}, c.Role) {
		v.add("Role", c.Role, "set one of writer, reader, any, or nothing for the default")
	}
	if strings.ContainsRune(c.Password, 0) {
		v.add("Password", redact.Mask, "remove the zero byte")
	}
}

func (v *validator) tls(t TLSConfig) {
	modes := []TLSMode{"", TLSDisable, TLSAllow, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull}
	if !slices.Contains(modes, t.Mode) {
		v.add("TLS.Mode", t.Mode, "set one of disable, allow, prefer, require, verify-ca, verify-full")
	}
	if !slices.Contains([]string{"", "1.2", "1.3"}, t.MinVersion) {
		v.add("TLS.MinVersion", t.MinVersion, "set 1.2 or 1.3, or nothing for 1.2")
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		switch {
		case err != nil:
			v.add("TLS.CAFile", t.CAFile, "name a readable PEM file with the certificates to trust ("+reason(err)+")")
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			v.add("TLS.CAFile", t.CAFile, "name a PEM file; this one holds no certificate")
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		v.add("TLS.CertFile", t.CertFile, "set TLS.CertFile and TLS.KeyFile together")
	}
	for _, file := range []struct{ field, name string }{{"TLS.CertFile", t.CertFile}, {"TLS.KeyFile", t.KeyFile}} {
		if file.name == "" {
			continue
		}
		if _, err := os.ReadFile(file.name); err != nil {
			v.add(file.field, file.name, "name a readable PEM file ("+reason(err)+")")
		}
	}
}

func (v *validator) pool(p PoolConfig) {
	switch {
	case p.MaxConns < 0:
		v.add("Pool.MaxConns", p.MaxConns, "set 1 or more, or 0 for the default; a pool without a limit is not offered")
	case p.MaxConns > maxPoolConns:
		v.add("Pool.MaxConns", p.MaxConns, "set 65535 or less")
	}
	maxConns := Config{Pool: PoolConfig{MaxConns: p.MaxConns}}.WithDefaults().Pool.MaxConns
	switch {
	case p.MinConns < 0:
		v.add("Pool.MinConns", p.MinConns, "set 0 or more")
	case p.MaxConns >= 0 && p.MinConns > maxConns:
		v.add("Pool.MinConns", p.MinConns, fmt.Sprintf("set at most Pool.MaxConns, which is %d", maxConns))
	}
	if p.MaxOverflow < 0 || p.MaxOverflow > maxPoolConns {
		v.add("Pool.MaxOverflow", p.MaxOverflow, "set 0 or more, at most 65535")
	}
	v.duration("Pool.AcquireTimeout", p.AcquireTimeout)
	v.duration("Pool.MaxConnLifetime", p.MaxConnLifetime)
	v.duration("Pool.MaxConnLifetimeJitter", p.MaxConnLifetimeJitter)
	if p.MaxConnLifetimeJitter > 0 && p.MaxConnLifetimeJitter < time.Second {
		v.add("Pool.MaxConnLifetimeJitter", p.MaxConnLifetimeJitter, "set 1s or more: pgxpool counts whole seconds, so that less has no effect")
	}
	v.duration("Pool.MaxConnIdleTime", p.MaxConnIdleTime)
}

// maxPoolConns is far above what any server accepts (max_connections ends at 262143, RDS at 5000 by default) and small
// enough to find a typing error.
const maxPoolConns = 65535

func (v *validator) timeouts(t TimeoutConfig) {
	v.duration("Timeouts.Connect", t.Connect)
	v.duration("Timeouts.Validate", t.Validate)
	v.duration("Timeouts.TCPUser", t.TCPUser)
	for _, setting := range t.settings() {
		v.duration(setting.field, setting.value)
		if setting.value > 0 && setting.value < time.Millisecond {
			v.add(setting.field, setting.value, "set 1ms or more, the resolution of the server's setting")
		}
		if setting.value.Milliseconds() > maxServerMillis {
			v.add(setting.field, setting.value, "set at most 24 days, the limit of the server's setting")
		}
	}
}

// maxServerMillis is the largest value of an integer setting in milliseconds.
const maxServerMillis = 1<<31 - 1

func (v *validator) start(c Config) {
	if !slices.Contains([]StartMode{"", StartRequire, StartOptional, StartLazy}, c.Start.Mode) {
		v.add("Start.Mode", c.Start.Mode, "set one of require, optional, lazy")
	}
	v.positive("Start.Timeout", c.Start.Timeout)
	if c.Retry.MaxAttempts < Off {
		v.add("Retry.MaxAttempts", c.Retry.MaxAttempts, "set 1 or more, 0 for the default or pgfx.Off (-1) for none")
	}
	v.backoff("Retry.", c.Retry.Delay, c.Retry.MaxDelay, c.Retry.Multiplier)
	if b := c.Retry.Budget; b != Off && !(b >= 0 && b <= 1) { // NaN is neither
		v.add("Retry.Budget", b, "set a share from 0 to 1, 0 for the default or pgfx.Off (-1) for no limit")
	}
	v.duration("Health.Interval", c.Health.Interval)
	v.positive("Health.Timeout", c.Health.Timeout)
}

const maxMultiplier = 100

// backoff checks what says how long to wait before trying again.
func (v *validator) backoff(prefix string, delay, maxDelay time.Duration, multiplier float64) {
	v.positive(prefix+"Delay", delay)
	v.positive(prefix+"MaxDelay", maxDelay)
	if delay > 0 && maxDelay > 0 && delay > maxDelay {
		v.add(prefix+"MaxDelay", maxDelay, fmt.Sprintf("set at least %sDelay, which is %v", prefix, delay))
	}
	if multiplier != 0 && !(multiplier >= 1 && multiplier <= maxMultiplier) { // NaN is neither
		v.add(prefix+"Multiplier", multiplier, "set a factor from 1 to 100, or 0 for the default")
	}
}

// duration checks a duration that can be switched off.
func (v *validator) duration(field string, d time.Duration) {
	if d < Off {
		v.add(field, d, "set a positive duration, 0 for the default or pgfx.Off (-1) to switch it off")
	}
}

// positive checks a duration that cannot be switched off.
func (v *validator) positive(field string, d time.Duration) {
	if d < 0 {
		v.add(field, d, "set a positive duration, or 0 for the default; it can't be switched off")
	}
}

// parse lets pgx read the connection string. Only what went wrong is taken over from its error: the string itself, and
// what the parser quotes of it, may hold the password in a place where no pattern finds it.
func (v *validator) parse(c Config) {
	parsed, err := pgxpool.ParseConfig(c.connString())
	if err == nil {
		v.execModeWithURL(c, parsed.ConnConfig, c.urlParams())
		database := parsed.ConnConfig.Database
		if c.Database != "" {
			database = ""
		}
		if c.URL != "" && strings.Contains(targetHosts(parsed.ConnConfig)+database, "@") {
			// The rest of a password was taken for the host or the database and would be shown as such.
			v.add("URL", redact.ConnString(c.URL), "percent-encode special characters in the password: @ is %40, / is %2F, ? is %3F, # is %23")
		}
		return
	}
	fix := redact.ParseError(err) + "; write postgres://user:password@host:5432/database?sslmode=verify-full and percent-encode special characters"
	if _, urlErr := url.Parse(c.URL); urlErr == nil && strings.Contains(c.URL, "://") &&
		!strings.HasPrefix(c.URL, "postgres://") && !strings.HasPrefix(c.URL, "postgresql://") {
		fix = "begin it with postgres:// or postgresql://"
	}
	field, value := "URL", redact.ConnString(c.URL)
	if c.URL == "" {
		field, value = "the address", c.Host
	}
	v.add(field, value, fix)
}

// reason is what went wrong with a file, without its name.
func reason(err error) string {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// readPassword reads a password from a file, without its last line break.
func readPassword(name string) (string, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the configuration names the file
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case password == "":
		return "", errors.New("the file is empty")
	case strings.ContainsRune(password, 0):
		return "", errors.New("the file holds a zero byte")
	}
	return password, nil
}
