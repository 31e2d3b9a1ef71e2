package pgfx

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// Off switches a limit, a timeout or a feature off. It is the only negative value that a [Config] accepts; zero always
// means the documented default.
const Off = -1

// Config says which database to use and how. Its zero value is complete but for the address: every zero field means the
// default that its comment documents, and [Off] switches a limit off where the comment says so.
//
// The address is a URL, or parts, or both; a part that is set wins over the same part of the URL. Whatever neither of
// them says is taken from libpq's environment (PGHOST, PGSSLMODE, ~/.pgpass and so on), as with any pgx program
// (PostgreSQL manual, "libpq Environment Variables").
//
// A Config prints, marshals and logs with its secrets masked; to read it back use the fields. It is a plain value:
// copying it is fine, and nothing keeps a reference to it.
type Config struct {
	// URL is a connection string in URL or keyword/value form. Several hosts, separated by commas, are tried in order.
	URL string `env:"URL" json:"url,omitempty" koanf:"url" mapstructure:"url" yaml:"url,omitempty"`
	// Host is a host name, an address or the directory of a Unix socket.
	Host string `env:"HOST" json:"host,omitempty" koanf:"host" mapstructure:"host" yaml:"host,omitempty"`
	// Port is the TCP port, or the number in a Unix socket's name. Default: 5432.
	Port int `env:"PORT" json:"port,omitempty" koanf:"port" mapstructure:"port" yaml:"port,omitempty"`
	// Database is the database's name. Default: the same as Username.
	Database string `env:"NAME" json:"database,omitempty" koanf:"database" mapstructure:"database" yaml:"database,omitempty"`
	// Username is the role to log in as. Default: the name of the operating system's user.
	Username string `env:"USERNAME" json:"username,omitempty" koanf:"username" mapstructure:"username" yaml:"username,omitempty"`
	// Password is the role's password. Prefer PasswordFile where a file is what the platform offers.
	Password string `env:"PASSWORD" json:"password,omitempty" koanf:"password" mapstructure:"password" yaml:"password,omitempty"`
	// PasswordFile names a file that holds the password (one trailing line break is cut off). It is read again for every
	// new connection, so that a rotated password needs no restart.
	PasswordFile string `env:"PASSWORD_FILE" json:"password_file,omitempty" koanf:"password_file" mapstructure:"password_file" yaml:"password_file,omitempty"`
	// ApplicationName is what pg_stat_activity shows. Default: the name of the executable.
	ApplicationName string `env:"APPLICATION_NAME" json:"application_name,omitempty" koanf:"application_name" mapstructure:"application_name" yaml:"application_name,omitempty"`
	// SearchPath sets search_path for every connection, for example "app, public". Default: the server's own.
	SearchPath string `env:"SEARCH_PATH" json:"search_path,omitempty" koanf:"search_path" mapstructure:"search_path" yaml:"search_path,omitempty"`

	// TargetSessionAttrs picks among several hosts as libpq does: any, read-write, read-only, primary, standby or
	// prefer-standby. It is looked at when connecting only; see Role for afterwards. Default: any.
	TargetSessionAttrs string `env:"TARGET_SESSION_ATTRS" json:"target_session_attrs,omitempty" koanf:"target_session_attrs" mapstructure:"target_session_attrs" yaml:"target_session_attrs,omitempty"`
	// Role is what the pool expects the server to be: writer, reader or any. Default: a writer from the first connection on
	// that is one. See [Role].
	Role Role `env:"ROLE" json:"role,omitempty" koanf:"role" mapstructure:"role" yaml:"role,omitempty"`

	// Pooler is direct or transaction: what stands between the application and the server. See [PoolerMode]. Default: direct.
	Pooler PoolerMode `env:"POOLER" json:"pooler,omitempty" koanf:"pooler" mapstructure:"pooler" yaml:"pooler,omitempty"`
	// ExecMode is how statements with arguments run: cache_statement, cache_describe, describe_exec, exec or simple_protocol.
	// See [ExecMode]. Default: what the URL's default_query_exec_mode says, else cache_statement, behind a transaction pooler
	// cache_describe; without a cache describe_exec and exec.
	ExecMode ExecMode `env:"EXEC_MODE" json:"exec_mode,omitempty" koanf:"exec_mode" mapstructure:"exec_mode" yaml:"exec_mode,omitempty"`
	// StatementCache is how many statements, or descriptions of them, each connection remembers for ExecMode. Default: what the
	// URL's statement_cache_capacity and description_cache_capacity say, else 512. Off: none.
	StatementCache int `env:"STATEMENT_CACHE" json:"statement_cache,omitempty" koanf:"statement_cache" mapstructure:"statement_cache" yaml:"statement_cache,omitempty"`
	// DisableFastCodecs leaves uuid, json, jsonb and timestamptz to pgx's own codecs. Default: false, which is codecs that take fewer
	// allocations for UUIDs, raw JSON and times; they give the same values, and rows.Values and destinations of type any stay
	// pgx's own in any case.
	DisableFastCodecs bool `env:"DISABLE_FAST_CODECS" json:"disable_fast_codecs,omitempty" koanf:"disable_fast_codecs" mapstructure:"disable_fast_codecs" yaml:"disable_fast_codecs,omitempty"`

	TLS      TLSConfig     `envPrefix:"TLS_"    json:"tls,omitzero"      koanf:"tls"      mapstructure:"tls"      yaml:"tls,omitempty"`
	Pool     PoolConfig    `envPrefix:"POOL_"   json:"pool,omitzero"     koanf:"pool"     mapstructure:"pool"     yaml:"pool,omitempty"`
	Timeouts TimeoutConfig `envPrefix:""        json:"timeouts,omitzero" koanf:"timeouts" mapstructure:"timeouts" yaml:"timeouts,omitempty"`
	Start    StartConfig   `envPrefix:"START_"  json:"start,omitzero"    koanf:"start"    mapstructure:"start"    yaml:"start,omitempty"`
	Retry    RetryConfig   `envPrefix:"RETRY_"  json:"retry,omitzero"    koanf:"retry"    mapstructure:"retry"    yaml:"retry,omitempty"`
	Health   HealthConfig  `envPrefix:"HEALTH_" json:"health,omitzero"   koanf:"health"   mapstructure:"health"   yaml:"health,omitempty"`
	Stats    StatsConfig   `envPrefix:"STATS_"  json:"stats,omitzero"    koanf:"stats"    mapstructure:"stats"    yaml:"stats,omitempty"`
}

// TLSConfig says how the connection is protected (PostgreSQL manual, "SSL Support").
type TLSConfig struct {
	// Mode is one of disable, allow, prefer, require, verify-ca and verify-full. Default: what the URL or PGSSLMODE says,
	// else prefer, as in libpq. On RDS use verify-full with the RDS CA bundle as CAFile.
	Mode TLSMode `env:"MODE" json:"mode,omitempty" koanf:"mode" mapstructure:"mode" yaml:"mode,omitempty"`
	// CAFile names a PEM file with the certificates of the authorities to trust. Default: the system's.
	CAFile string `env:"CA_FILE" json:"ca_file,omitempty" koanf:"ca_file" mapstructure:"ca_file" yaml:"ca_file,omitempty"`
	// CertFile and KeyFile name the client's certificate and key (PEM). Set both or none.
	CertFile string `env:"CERT_FILE" json:"cert_file,omitempty" koanf:"cert_file" mapstructure:"cert_file" yaml:"cert_file,omitempty"`
	KeyFile  string `env:"KEY_FILE"  json:"key_file,omitempty"  koanf:"key_file"  mapstructure:"key_file"  yaml:"key_file,omitempty"`
	// ServerName is the name that the server's certificate must be for. Default: the host.
	ServerName string `env:"SERVER_NAME" json:"server_name,omitempty" koanf:"server_name" mapstructure:"server_name" yaml:"server_name,omitempty"`
	// MinVersion is the lowest version of TLS to accept: 1.2 or 1.3. Default: 1.2.
	MinVersion string `env:"MIN_VERSION" json:"min_version,omitempty" koanf:"min_version" mapstructure:"min_version" yaml:"min_version,omitempty"`
}

// TLSMode is one of libpq's values of sslmode.
type TLSMode string

// The TLS modes, weakest first. Only TLSVerifyFull protects against an impostor.
const (
	TLSDisable    TLSMode = "disable"
	TLSAllow      TLSMode = "allow"
	TLSPrefer     TLSMode = "prefer"
	TLSRequire    TLSMode = "require"
	TLSVerifyCA   TLSMode = "verify-ca"
	TLSVerifyFull TLSMode = "verify-full"
)

// Role is what a pool expects its server to be. A server counts as read-only when its sessions are, by transaction_read_only:
// a standby, or a server that was demoted with its connections left alive. Connections are checked in the round trip that
// finds out whether they are alive (see Timeouts.Validate).
type Role string

const (
	// RoleAuto is the default. It takes what it gets, but a connection that could write and no longer can is replaced. It does
	// no harm to a pool on a replica, and moves a pool off a writer that was demoted.
	RoleAuto Role = ""
	// RoleWriter also refuses new connections to a read-only server, with a [*RoleError].
	RoleWriter Role = "writer"
	// RoleReader doesn't look at the role: a reader endpoint may lead to the writer where there is no replica.
	RoleReader Role = "reader"
	// RoleAny doesn't look at the role either.
	RoleAny Role = "any"
)

// PoolConfig sizes the pool. The matching pool_… parameters of a URL are honoured where a field is zero.
type PoolConfig struct {
	// MaxConns is the largest number of connections. Default: 10, or the number of CPUs where there are more.
	MaxConns int `env:"MAX_CONNS" json:"max_conns,omitempty" koanf:"max_conns" mapstructure:"max_conns" yaml:"max_conns,omitempty"`
	// MinConns is the number of connections that are kept open even when idle; they are opened during start. Default: 0.
	MinConns int `env:"MIN_CONNS" json:"min_conns,omitempty" koanf:"min_conns" mapstructure:"min_conns" yaml:"min_conns,omitempty"`
	// MaxOverflow is the number of connections that may be opened beyond MaxConns when all are in use; they are closed when
	// they are returned. Default: 0.
	MaxOverflow int `env:"MAX_OVERFLOW" json:"max_overflow,omitempty" koanf:"max_overflow" mapstructure:"max_overflow" yaml:"max_overflow,omitempty"`
	// AcquireTimeout is the longest wait for a connection, with dialing a new one included; then the caller gets an
	// [*AcquireTimeoutError]. Default: 30 s. Off: only the caller's ctx bounds the wait.
	AcquireTimeout time.Duration `env:"ACQUIRE_TIMEOUT" json:"acquire_timeout,omitempty" koanf:"acquire_timeout" mapstructure:"acquire_timeout" yaml:"acquire_timeout,omitempty"`
	// MaxConnLifetime is the age at which a connection is replaced. Default: 1 h. Off: never.
	MaxConnLifetime time.Duration `env:"MAX_CONN_LIFETIME" json:"max_conn_lifetime,omitempty" koanf:"max_conn_lifetime" mapstructure:"max_conn_lifetime" yaml:"max_conn_lifetime,omitempty"`
	// MaxConnLifetimeJitter spreads those replacements over the time after MaxConnLifetime; whole seconds count.
	// Default: a tenth of MaxConnLifetime. Off: none.
	MaxConnLifetimeJitter time.Duration `env:"MAX_CONN_LIFETIME_JITTER" json:"max_conn_lifetime_jitter,omitempty" koanf:"max_conn_lifetime_jitter" mapstructure:"max_conn_lifetime_jitter" yaml:"max_conn_lifetime_jitter,omitempty"`
	// MaxConnIdleTime is the time after which an idle connection above MinConns is closed. Default: 30 min. Off: never.
	MaxConnIdleTime time.Duration `env:"MAX_CONN_IDLE_TIME" json:"max_conn_idle_time,omitempty" koanf:"max_conn_idle_time" mapstructure:"max_conn_idle_time" yaml:"max_conn_idle_time,omitempty"`
}

// TimeoutConfig bounds connecting and, on the server, statements. Each of the server's settings has the resolution of a
// millisecond and a default of what the server or the role is configured with; Off sets it to 0, which is "no limit".
type TimeoutConfig struct {
	// Connect is the longest time for one attempt to open a connection to one address, login included. Default: 10 s.
	Connect time.Duration `env:"CONNECT_TIMEOUT" json:"connect,omitempty" koanf:"connect" mapstructure:"connect" yaml:"connect,omitempty"`
	// Validate is the longest time that an idle connection may take to prove that it is alive before it is handed out.
	// Connections that were used within the last second aren't asked. Default: 500 ms. Off: no connection is asked.
	Validate time.Duration `env:"VALIDATE_TIMEOUT" json:"validate,omitempty" koanf:"validate" mapstructure:"validate" yaml:"validate,omitempty"`
	// Unacknowledged is how long the kernel keeps data that was sent and not acknowledged before it gives a connection up
	// (TCP_USER_TIMEOUT; Linux). It ends a statement whose server has vanished. Default: 30 s. Off: the kernel's own limit,
	// about a quarter of an hour.
	TCPUser time.Duration `env:"TCP_USER_TIMEOUT" json:"tcp_user,omitempty" koanf:"tcp_user" mapstructure:"tcp_user" yaml:"tcp_user,omitempty"`
	// Statement sets statement_timeout.
	Statement time.Duration `env:"STATEMENT_TIMEOUT" json:"statement,omitempty" koanf:"statement" mapstructure:"statement" yaml:"statement,omitempty"`
	// Lock sets lock_timeout.
	Lock time.Duration `env:"LOCK_TIMEOUT" json:"lock,omitempty" koanf:"lock" mapstructure:"lock" yaml:"lock,omitempty"`
	// IdleInTransaction sets idle_in_transaction_session_timeout.
	IdleInTransaction time.Duration `env:"IDLE_IN_TRANSACTION_TIMEOUT" json:"idle_in_transaction,omitempty" koanf:"idle_in_transaction" mapstructure:"idle_in_transaction" yaml:"idle_in_transaction,omitempty"`
}

// serverTimeout is one of the timeouts that the server keeps.
type serverTimeout struct {
	field, name string
	value       time.Duration
}

func (t TimeoutConfig) settings() []serverTimeout {
	return []serverTimeout{
		{"Timeouts.Statement", "statement_timeout", t.Statement},
		{"Timeouts.Lock", "lock_timeout", t.Lock},
		{"Timeouts.IdleInTransaction", "idle_in_transaction_session_timeout", t.IdleInTransaction},
	}
}

// StartConfig says what starting the application has to do with the database.
type StartConfig struct {
	// Mode is Require, Degraded or Lazy. Default: Require.
	Mode StartMode `env:"MODE" json:"mode,omitempty" koanf:"mode" mapstructure:"mode" yaml:"mode,omitempty"`
	// Timeout bounds the whole start when the ctx of Start has a later deadline or none. Default: the ctx's deadline, else
	// 15 s. In any case start gives up max(10 %, 500 ms) before the ctx's deadline, so that there is time to clean up.
	Timeout time.Duration `env:"TIMEOUT" json:"timeout,omitempty" koanf:"timeout" mapstructure:"timeout" yaml:"timeout,omitempty"`
}

// StartMode says what a start does while the database cannot be reached.
type StartMode string

const (
	// StartRequire retries until the database answers and fails the start when it does not in time.
	StartRequire StartMode = "require"
	// StartOptional tries once and starts without the database when that fails; it connects in the background and runs the
	// setup then.
	StartOptional StartMode = "optional"
	// StartLazy does not wait for the database at all: connecting and setup happen in the background.
	StartLazy StartMode = "lazy"
)

// RetryConfig shapes retries: those of connecting while starting, and those of [DB.RetryPolicy], which reads of repositories
// and whoever calls [Retry] with it make. Each wait is drawn from between a tenth of Delay and its full length, which
// grows exponentially.
type RetryConfig struct {
	// MaxAttempts is the number of attempts after the first. Default: 2; while starting as many as the time allows. Off: none.
	MaxAttempts int `env:"MAX_ATTEMPTS" json:"max_attempts,omitempty" koanf:"max_attempts" mapstructure:"max_attempts" yaml:"max_attempts,omitempty"`
	// Delay is the longest wait before the first retry. Default: 200 ms.
	Delay time.Duration `env:"DELAY" json:"delay,omitempty" koanf:"delay" mapstructure:"delay" yaml:"delay,omitempty"`
	// Multiplier is the factor from one longest wait to the next, 1 or more. Default: 2.
	Multiplier float64 `env:"MULTIPLIER" json:"multiplier,omitempty" koanf:"multiplier" mapstructure:"multiplier" yaml:"multiplier,omitempty"`
	// MaxDelay is the longest wait between two attempts. Default: 5 s.
	MaxDelay time.Duration `env:"MAX_DELAY" json:"max_delay,omitempty" koanf:"max_delay" mapstructure:"max_delay" yaml:"max_delay,omitempty"`
	// Budget is how many retries there may be for each call, from 0 to 1, beyond a reserve of ten or of
	// Pool.MaxConns, whichever is more; connecting while starting doesn't count. See [RetryBudget]. Default: 0.1. Off: no limit.
	Budget float64 `env:"BUDGET" json:"budget,omitempty" koanf:"budget" mapstructure:"budget" yaml:"budget,omitempty"`
}

// HealthConfig paces the monitor of package health.
type HealthConfig struct {
	// Interval is the time between two looks at a healthy database. Default: 30 s. Off: no monitor.
	Interval time.Duration `env:"INTERVAL" json:"interval,omitempty" koanf:"interval" mapstructure:"interval" yaml:"interval,omitempty"`
	// Timeout is the longest that one look may take. Default: 5 s.
	Timeout time.Duration `env:"TIMEOUT" json:"timeout,omitempty" koanf:"timeout" mapstructure:"timeout" yaml:"timeout,omitempty"`
	// ThroughPool makes the monitor look through the pool and keep no connection of its own, for those who count the server's
	// slots. It then notices an idle server's end at the next look only, opens a connection for a moment where the pool has
	// none to give, and takes one of the pool's for each look. Default: false.
	ThroughPool bool `env:"THROUGH_POOL" json:"through_pool,omitempty" koanf:"through_pool" mapstructure:"through_pool" yaml:"through_pool,omitempty"`
}

// The defaults, in one place.
const (
	defaultMaxConns        = 10
	defaultAcquireTimeout  = 30 * time.Second
	defaultMaxConnLifetime = time.Hour
	defaultLifetimeJitter  = 10 // a tenth of the lifetime
	defaultMaxConnIdleTime = 30 * time.Minute
	defaultConnectTimeout  = 10 * time.Second
	defaultValidateTimeout = 500 * time.Millisecond
	defaultUnacknowledged  = 30 * time.Second
	defaultStartTimeout    = 15 * time.Second
	defaultRetryDelay      = 200 * time.Millisecond
	defaultRetryMultiplier = 2
	defaultRetryMaxDelay   = 5 * time.Second
	defaultHealthInterval  = 30 * time.Second
	defaultHealthTimeout   = 5 * time.Second
)

// WithDefaults returns a copy of c in which every zero field that has a default of ours holds it. Fields whose default is
// the server's or libpq's stay zero.
func (c Config) WithDefaults() Config {
	setDefault(&c.Pool.MaxConns, max(defaultMaxConns, runtime.NumCPU()))
	setDefault(&c.Pool.AcquireTimeout, defaultAcquireTimeout)
	setDefault(&c.Pool.MaxConnLifetime, defaultMaxConnLifetime)
	if c.Pool.MaxConnLifetime > 0 {
		setDefault(&c.Pool.MaxConnLifetimeJitter, c.Pool.MaxConnLifetime/defaultLifetimeJitter)
	}
	setDefault(&c.Pool.MaxConnIdleTime, defaultMaxConnIdleTime)
	setDefault(&c.Timeouts.Connect, defaultConnectTimeout)
	setDefault(&c.Timeouts.Validate, defaultValidateTimeout)
	setDefault(&c.Timeouts.TCPUser, defaultUnacknowledged)
	setDefault(&c.Start.Mode, StartRequire)
	setDefault(&c.Retry.Delay, defaultRetryDelay)
	setDefault(&c.Retry.Multiplier, defaultRetryMultiplier)
	setDefault(&c.Retry.MaxDelay, max(defaultRetryMaxDelay, c.Retry.Delay))
	setDefault(&c.Retry.Budget, DefaultRetryShare)
	setDefault(&c.Health.Interval, defaultHealthInterval)
	setDefault(&c.Health.Timeout, defaultHealthTimeout)
	c.Stats.setDefaults()
	if exe, err := os.Executable(); err == nil {
		setDefault(&c.ApplicationName, filepath.Base(exe))
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// masked returns a copy of c that may be shown.
func (c Config) masked() Config {
	c.URL, c.Host = redact.ConnString(c.URL), redact.ConnString(c.Host) // a URL lands in Host by mistake
	if c.Password != "" {
		c.Password = redact.Mask
	}
	return c
}

// plainConfig has Config's fields and none of its methods.
type plainConfig Config

// String returns c as JSON with its secrets masked.
func (c Config) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return "pgfx.Config(" + err.Error() + ")"
	}
	return string(text)
}

// Format prints what String returns for every verb, so that %+v and %#v show no secret either.
func (c Config) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, c.String()) }

// MarshalJSON writes c with its secrets masked. Durations are nanoseconds, as encoding/json has them.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(plainConfig(c.masked())) }

// MarshalYAML returns what a YAML encoder should write: c with its secrets masked.
func (c Config) MarshalYAML() (any, error) { return plainConfig(c.masked()), nil }
