package pgfx

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// ConfigProblem is one invalid setting of a [Config] or a [RetryPolicy].
type ConfigProblem struct {
	// Field is the path of the field, such as Pool.MaxConns.
	Field string
	// Key is the key of the field in YAML and other files, such as pool.max_conns. It is empty for a [RetryPolicy].
	Key string
	// Env is the environment variable of the field, such as DATABASE_POOL_MAX_CONNS. [Config.Validate] names it with
	// [EnvPrefix], and [Open] with the prefix of the database. It is empty for a [RetryPolicy].
	Env string
	// Value is the invalid value as text, masked if it may hold a secret. It is empty if the field is not set.
	Value string
	// Fix describes what to set instead.
	Fix string
}

// String returns a line with the names, the value and the fix.
func (p ConfigProblem) String() string {
	name := p.Field
	if p.Key != "" {
		name += " (" + p.Key + ", " + p.Env + ")"
	}
	if p.Value == "" {
		return name + " is not set: " + p.Fix
	}
	return fmt.Sprintf("%s is %q: %s", name, p.Value, p.Fix)
}

// ConfigError reports all problems of a [Config] or a [RetryPolicy] at once.
type ConfigError struct {
	// Problems has at least one element.
	Problems []ConfigProblem

	what     string // "" for a Config
	database string // name of the database in the application, "" for the default one
}

func (e *ConfigError) Error() string {
	what := cmp.Or(e.what, "config")
	if e.database != "" {
		what += " of database " + strconv.Quote(e.database)
	}
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

// Validate returns a [*ConfigError] with all problems of c, or nil. It reads the files that c names, to report a missing one
// early. It opens no connection. A missing address is valid, because it may come from an [Endpoint] or the environment.
func (c Config) Validate() error { return c.validate("") }

// validate is Validate for the database with this name.
func (c Config) validate(database string) error {
	v := &validator{}
	v.address(c)
	v.tls(c.TLS)
	v.pool(c.Pool)
	v.timeouts(c.Timeouts)
	v.start(c.Start)
	v.retry(c.Retry)
	v.duration("Health.Interval", c.Health.Interval)
	v.positive("Health.Timeout", c.Health.Timeout)
	v.stats(c.Stats)
	v.execMode(c)
	if len(v.problems) == 0 {
		v.connString(c)
	}
	for i := range v.problems {
		p := &v.problems[i]
		for _, s := range settings() {
			if s.field == p.Field {
				p.Key, p.Env = s.key, envPrefix(database)+s.env
			}
		}
	}
	if len(v.problems) == 0 {
		return nil
	}
	return &ConfigError{Problems: v.problems, database: database}
}

// validator collects problems.
type validator struct{ problems []ConfigProblem }

func (v *validator) add(field string, value any, fix string) {
	v.problems = append(v.problems, ConfigProblem{Field: field, Value: fmt.Sprint(value), Fix: fix})
}

func (v *validator) err(what string) error {
	if len(v.problems) == 0 {
		return nil
	}
	return &ConfigError{Problems: v.problems, what: what}
}

const maxPort = 65535

func (v *validator) address(c Config) {
	if c.Port < 0 || c.Port > maxPort {
		v.add("Port", c.Port, "set a port from 1 to 65535, or 0 for 5432")
	}
	if strings.Contains(c.Host, "://") {
		v.add("Host", redact.ConnString(c.Host), "set a host name, an IP address or a socket directory; a connection string belongs in URL")
	}
	if c.Password != "" && c.PasswordFile != "" {
		v.add("PasswordFile", c.PasswordFile, "set Password or PasswordFile, not both")
	}
	if c.PasswordFile != "" {
		if _, err := readPassword(c.PasswordFile); err != nil {
			v.add("PasswordFile", c.PasswordFile, "set the path of a readable file that holds the password ("+fileProblem(err)+")")
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
	switch {
	case c.Role == "reader":
		v.add("Role", c.Role, "set any: a pool accepts both a replica and the writer behind a reader endpoint")
	case !slices.Contains([]Role{RoleAuto, RoleWriter, RoleAny}, c.Role):
		v.add("Role", c.Role, "set writer or any, or leave it empty for the default")
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
		v.add("TLS.MinVersion", t.MinVersion, "set 1.2 or 1.3, or leave it empty for 1.2")
	}
	if t.CAFile != "" {
		_, _, err := (&caBundle{path: t.CAFile}).load()
		switch {
		case errors.Is(err, errNoCertificates):
			v.add("TLS.CAFile", t.CAFile, "set the path of a PEM file with certificates, or of a directory with such files: this one has none")
		case err != nil:
			v.add("TLS.CAFile", t.CAFile, "set the path of a readable PEM file with the certificates to trust ("+fileProblem(err)+")")
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
			v.add(file.field, file.name, "set the path of a readable PEM file ("+fileProblem(err)+")")
		}
	}
}

func (v *validator) pool(p PoolConfig) {
	switch {
	case p.MaxConns < 0:
		v.add("Pool.MaxConns", p.MaxConns, "set 1 or more, or 0 for the default; the pool must have a limit")
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
		v.add("Pool.MaxOverflow", p.MaxOverflow, "set a number from 0 to 65535")
	}
	v.duration("Pool.AcquireTimeout", p.AcquireTimeout)
	if p.MaxWaiting < 0 {
		v.add("Pool.MaxWaiting", p.MaxWaiting, "set 1 or more, or 0 for no limit")
	}
	v.duration("Pool.MaxConnLifetime", p.MaxConnLifetime)
	v.duration("Pool.MaxConnLifetimeJitter", p.MaxConnLifetimeJitter)
	if p.MaxConnLifetimeJitter > 0 && p.MaxConnLifetimeJitter < time.Second {
		v.add("Pool.MaxConnLifetimeJitter", p.MaxConnLifetimeJitter, "set 1s or more: pgxpool uses whole seconds")
	}
	v.duration("Pool.MaxConnIdleTime", p.MaxConnIdleTime)
}

// maxPoolConns is a limit that only a typing error exceeds: servers accept 262143 connections at most, RDS 5000 by default.
const maxPoolConns = 65535

func (v *validator) timeouts(t TimeoutConfig) {
	v.duration("Timeouts.Connect", t.Connect)
	v.duration("Timeouts.Validate", t.Validate)
	v.duration("Timeouts.TCPUser", t.TCPUser)
	v.positive("Timeouts.Cancel", t.Cancel)
	v.duration("Timeouts.ClientLost", t.ClientLost)
	if t.ClientLost > 0 && t.ClientLost < minClientLost || t.ClientLost.Milliseconds() > maxServerMillis {
		v.add("Timeouts.ClientLost", t.ClientLost, "set 6s or more, because the server's keep-alive counts seconds, and at most 24 days")
	}
	for _, timeout := range t.serverTimeouts() {
		v.duration(timeout.field, timeout.value)
		if timeout.value > 0 && timeout.value < time.Millisecond {
			v.add(timeout.field, timeout.value, "set 1ms or more, the resolution of the server's setting")
		}
		if timeout.value.Milliseconds() > maxServerMillis {
			v.add(timeout.field, timeout.value, "set at most 24 days, the limit of the server's setting")
		}
	}
}

// minClientLost is the smallest value whose parts, down to a sixth, are whole seconds.
const minClientLost = 6 * time.Second

// maxServerMillis is the largest value of a server setting in milliseconds, a 32-bit integer.
const maxServerMillis = 1<<31 - 1

func (v *validator) start(s StartConfig) {
	if !slices.Contains([]StartMode{"", StartRequire, StartOptional, StartLazy}, s.Mode) {
		v.add("Start.Mode", s.Mode, "set one of require, optional, lazy")
	}
	v.positive("Start.Timeout", s.Timeout)
}

func (v *validator) retry(r RetryConfig) {
	v.attempts("Retry.MaxAttempts", r.MaxAttempts)
	v.backoff("Retry.", r.Delay, r.MaxDelay, r.Multiplier)
	if b := r.Budget; b != Off && !(b >= 0 && b <= 1) { // NaN is neither
		v.add("Retry.Budget", b, "set a number from 0 to 1, 0 for the default, or pgfx.Off (-1) for no limit")
	}
}

func (v *validator) attempts(field string, n int) {
	if n < Off {
		v.add(field, n, "set 1 or more, 0 for the default, or pgfx.Off (-1) for no limit")
	}
}

const maxMultiplier = 100

// backoff checks the waits between attempts.
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

// duration checks a duration that may be Off.
func (v *validator) duration(field string, d time.Duration) {
	if d < Off {
		v.add(field, d, "set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it")
	}
}

// positive checks a duration that must not be Off.
func (v *validator) positive(field string, d time.Duration) {
	if d < 0 {
		v.add(field, d, "set a positive duration, or 0 for the default; it cannot be disabled")
	}
}

// connString checks the connection string, and the fields together with its parameters.
//
// It takes only the kind of problem from pgx's parse error. The error may quote a part of the connection string that holds
// the password where no pattern finds it.
func (v *validator) connString(c Config) {
	pool, err := c.WithDefaults().poolConfig(c)
	if err != nil {
		v.parseError(c, err)
		return
	}
	cc := pool.ConnConfig
	v.execModeWithURL(c, cc)
	shown := targetHosts(&cc.Config)
	if c.Database == "" {
		shown += cc.Database
	}
	if c.URL != "" && strings.Contains(shown, "@") { // a part of the password would be shown as the host or the database
		v.add("URL", redact.ConnString(c.URL), "percent-encode special characters in the password: @ is %40, / is %2F, ? is %3F, # is %23")
	}
	if maxConns := pool.MaxConns - int32(c.Pool.MaxOverflow); pool.MinConns > maxConns { //nolint:gosec // validated: at most 65535
		v.add("URL", fmt.Sprintf("pool_min_conns=%d", pool.MinConns), fmt.Sprintf("set at most the pool's maximum, which is %d", maxConns))
	}
}

func (v *validator) parseError(c Config, err error) {
	fix := redact.ParseError(err) + "; write postgres://user:password@host:5432/database?sslmode=verify-full and percent-encode special characters"
	if _, urlErr := url.Parse(c.URL); urlErr == nil && strings.Contains(c.URL, "://") && !isURL(c.URL) {
		fix = "begin it with postgres:// or postgresql://"
	}
	field, value := "URL", redact.ConnString(c.URL)
	if c.URL == "" {
		field, value = "the address", c.Host
	}
	v.add(field, value, fix)
}

// fileProblem returns the message of a file error without the path.
func fileProblem(err error) string {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// readPassword reads a password from a file and removes one trailing line break.
func readPassword(name string) (string, error) {
	text, err := os.ReadFile(name) //nolint:gosec // the path comes from the configuration
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
