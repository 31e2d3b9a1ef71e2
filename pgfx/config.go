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

// Off disables a limit, a timeout or a feature where the field's comment allows it. No other negative value is valid in a
// [Config] or a [RetryPolicy]. Zero always means the documented default.
const Off = -1

// Config describes a database: its address, its pool and how to use it. The zero value is valid except for the address.
// A zero field means the default in its comment.
//
// The address is a URL, or separate fields, or both. A field takes precedence over the same part of the URL. Parts
// that neither sets come from libpq's environment, such as PGHOST, PGSSLMODE and ~/.pgpass (PostgreSQL manual, "Environment
// Variables").
//
// A Config prints, marshals and logs with its secrets masked. Read the fields to get the real values. It is a plain value
// that may be copied. Package fmt ignores the methods of unexported fields. If your struct has a Config in such
// a field, give the struct a Format method, or don't print it.
type Config struct {
	// URL is a connection string in URL or keyword/value form. Several hosts, separated by commas, are tried in order.
	URL string `env:"URL" json:"url,omitempty" koanf:"url" mapstructure:"url" yaml:"url,omitempty"`
	// Host is a host name, an IP address or the directory of a Unix socket.
	Host string `env:"HOST" json:"host,omitempty" koanf:"host" mapstructure:"host" yaml:"host,omitempty"`
	// Port is the TCP port, or the number in the name of a Unix socket. Default: 5432.
	Port int `env:"PORT" json:"port,omitempty" koanf:"port" mapstructure:"port" yaml:"port,omitempty"`
	// Database is the name of the database. Default: Username.
	Database string `env:"NAME" json:"database,omitempty" koanf:"database" mapstructure:"database" yaml:"database,omitempty"`
	// Username is the login user. Default: the operating system's user.
	Username string `env:"USERNAME" json:"username,omitempty" koanf:"username" mapstructure:"username" yaml:"username,omitempty"`
	// Password is the password of the login user. Set Password or PasswordFile, not both.
	Password string `env:"PASSWORD" json:"password,omitempty" koanf:"password" mapstructure:"password" yaml:"password,omitempty"`
	// PasswordFile is the path of a file that holds the password. The file is read for every new connection, so a rotated
	// password needs no restart. One trailing line break is removed.
	PasswordFile string `env:"PASSWORD_FILE" json:"password_file,omitempty" koanf:"password_file" mapstructure:"password_file" yaml:"password_file,omitempty"`
	// ApplicationName is the application_name shown in pg_stat_activity. Default: the name of the executable.
	ApplicationName string `env:"APPLICATION_NAME" json:"application_name,omitempty" koanf:"application_name" mapstructure:"application_name" yaml:"application_name,omitempty"`
	// SearchPath sets search_path on every connection, for example "app, public". Default: the server's setting.
	SearchPath string `env:"SEARCH_PATH" json:"search_path,omitempty" koanf:"search_path" mapstructure:"search_path" yaml:"search_path,omitempty"`

	// TargetSessionAttrs selects among several hosts, as in libpq: any, read-write, read-only, primary, standby or
	// prefer-standby. It is checked only while connecting; Role is checked afterwards too. Default: any.
	TargetSessionAttrs string `env:"TARGET_SESSION_ATTRS" json:"target_session_attrs,omitempty" koanf:"target_session_attrs" mapstructure:"target_session_attrs" yaml:"target_session_attrs,omitempty"`
	// Role is the server role that the pool requires: writer, any or empty. Default: empty, which accepts any server
	// but leaves a writer that becomes read-only. See [Role].
	Role Role `env:"ROLE" json:"role,omitempty" koanf:"role" mapstructure:"role" yaml:"role,omitempty"`

	// Pooler is what stands between the application and the server: direct or transaction. See [PoolerMode]. Default: direct.
	Pooler PoolerMode `env:"POOLER" json:"pooler,omitempty" koanf:"pooler" mapstructure:"pooler" yaml:"pooler,omitempty"`
	// ExecMode is how statements with arguments are executed: cache_statement, cache_describe, describe_exec, exec or
	// simple_protocol. See [ExecMode]. Default: default_query_exec_mode of the URL, else cache_statement, or cache_describe
	// behind a transaction pooler. With StatementCache Off it is describe_exec, or exec behind a transaction pooler.
	ExecMode ExecMode `env:"EXEC_MODE" json:"exec_mode,omitempty" koanf:"exec_mode" mapstructure:"exec_mode" yaml:"exec_mode,omitempty"`
	// StatementCache is the number of prepared statements, or statement descriptions, cached per connection, at most 65535.
	// Default: statement_cache_capacity and description_cache_capacity of the URL, else 512. Off disables the cache.
	StatementCache int `env:"STATEMENT_CACHE" json:"statement_cache,omitempty" koanf:"statement_cache" mapstructure:"statement_cache" yaml:"statement_cache,omitempty"`
	// DisableFastCodecs leaves uuid, json, jsonb and timestamptz to pgx's codecs. The fast codecs allocate less and return
	// the same values. Exact reading of numbers and intervals (see [DB.Pool]) does not depend on it. Default: false.
	DisableFastCodecs bool `env:"DISABLE_FAST_CODECS" json:"disable_fast_codecs,omitempty" koanf:"disable_fast_codecs" mapstructure:"disable_fast_codecs" yaml:"disable_fast_codecs,omitempty"`

	// TLS configures encryption and certificates.
	TLS TLSConfig `envPrefix:"TLS_" json:"tls,omitzero" koanf:"tls" mapstructure:"tls" yaml:"tls,omitempty"`
	// Pool configures the size of the pool and the life of its connections.
	Pool PoolConfig `envPrefix:"POOL_" json:"pool,omitzero" koanf:"pool" mapstructure:"pool" yaml:"pool,omitempty"`
	// Timeouts bounds connecting, connection validation and statements.
	Timeouts TimeoutConfig `envPrefix:"" json:"timeouts,omitzero" koanf:"timeouts" mapstructure:"timeouts" yaml:"timeouts,omitempty"`
	// Start configures what [DB.Start] does while the database cannot be reached.
	Start StartConfig `envPrefix:"START_" json:"start,omitzero" koanf:"start" mapstructure:"start" yaml:"start,omitempty"`
	// Retry configures retries of connecting and of idempotent reads.
	Retry RetryConfig `envPrefix:"RETRY_" json:"retry,omitzero" koanf:"retry" mapstructure:"retry" yaml:"retry,omitempty"`
	// Health configures the monitor of package health.
	Health HealthConfig `envPrefix:"HEALTH_" json:"health,omitzero" koanf:"health" mapstructure:"health" yaml:"health,omitempty"`
	// Stats configures the pool's statistics.
	Stats StatsConfig `envPrefix:"STATS_" json:"stats,omitzero" koanf:"stats" mapstructure:"stats" yaml:"stats,omitempty"`
}

// TLSConfig configures encryption and certificates (PostgreSQL manual, "SSL Support").
type TLSConfig struct {
	// Mode is disable, allow, prefer, require, verify-ca or verify-full. On RDS use verify-full with the RDS CA bundle as
	// CAFile. Default: sslmode of the URL or PGSSLMODE, else prefer, as in libpq.
	Mode TLSMode `env:"MODE" json:"mode,omitempty" koanf:"mode" mapstructure:"mode" yaml:"mode,omitempty"`
	// CAFile is the path of a PEM file with the certificate authorities to trust, or of a directory with such files (.pem, .crt,
	// .cer). New connections use changed files without a restart. With mode require it works as verify-ca. Default: sslrootcert
	// of the URL, else the system's authorities.
	CAFile string `env:"CA_FILE" json:"ca_file,omitempty" koanf:"ca_file" mapstructure:"ca_file" yaml:"ca_file,omitempty"`
	// CertFile is the path of the client certificate (PEM). Set it together with KeyFile.
	CertFile string `env:"CERT_FILE" json:"cert_file,omitempty" koanf:"cert_file" mapstructure:"cert_file" yaml:"cert_file,omitempty"`
	// KeyFile is the path of the client certificate's private key (PEM). Set it together with CertFile.
	KeyFile string `env:"KEY_FILE" json:"key_file,omitempty" koanf:"key_file" mapstructure:"key_file" yaml:"key_file,omitempty"`
	// ServerName is the host name that the server's certificate must match. Default: the host.
	ServerName string `env:"SERVER_NAME" json:"server_name,omitempty" koanf:"server_name" mapstructure:"server_name" yaml:"server_name,omitempty"`
	// MinVersion is the lowest accepted TLS version: 1.2 or 1.3. Default: 1.2.
	MinVersion string `env:"MIN_VERSION" json:"min_version,omitempty" koanf:"min_version" mapstructure:"min_version" yaml:"min_version,omitempty"`
}

// TLSMode is a value of libpq's sslmode.
type TLSMode string

// The TLS modes, weakest first (PostgreSQL manual, "SSL Support", table "SSL Mode Descriptions").
const (
	// TLSDisable never encrypts.
	TLSDisable TLSMode = "disable"
	// TLSAllow encrypts only if the server refuses a plain connection.
	TLSAllow TLSMode = "allow"
	// TLSPrefer encrypts if the server supports it. It is libpq's default.
	TLSPrefer TLSMode = "prefer"
	// TLSRequire always encrypts but does not verify the server, unless a CA file is set.
	TLSRequire TLSMode = "require"
	// TLSVerifyCA also verifies that a trusted authority issued the server's certificate.
	TLSVerifyCA TLSMode = "verify-ca"
	// TLSVerifyFull also verifies the host name. Only this mode protects against an impersonated server.
	TLSVerifyFull TLSMode = "verify-full"
)

// Role is the server role that a pool requires. A server is read-only while transaction_read_only is on in its sessions:
// a standby, or a writer that was demoted with its connections left open.
//
// The role is checked when a connection is opened and by connection validation (see Timeouts.Validate), in the same round
// trip.
type Role string

const (
	// RoleAuto accepts any server, but closes a connection to a writer once that server has become read-only. It is the
	// default: it works on a replica, and leaves a demoted writer.
	RoleAuto Role = ""
	// RoleWriter requires a writer: connecting to a read-only server fails with a [*RoleError].
	RoleWriter Role = "writer"
	// RoleAny ignores the server role. Use it for reader endpoints, which may lead to the writer.
	RoleAny Role = "any"
)

// PoolConfig sizes the pool. The matching pool_… parameters of the URL apply where a field is zero.
type PoolConfig struct {
	// MaxConns is the largest number of connections, at most 65535. Default: 10, or the number of CPUs if that is more.
	MaxConns int `env:"MAX_CONNS" json:"max_conns,omitempty" koanf:"max_conns" mapstructure:"max_conns" yaml:"max_conns,omitempty"`
	// MinConns is the number of connections opened at start and kept open while idle. Default: 0.
	MinConns int `env:"MIN_CONNS" json:"min_conns,omitempty" koanf:"min_conns" mapstructure:"min_conns" yaml:"min_conns,omitempty"`
	// MaxOverflow is the number of connections that may be opened beyond MaxConns. A connection that is released while MaxConns
	// others are idle is closed. Connections that are released at the same moment may all stay open; the next releases close the
	// surplus. Default: 0.
	MaxOverflow int `env:"MAX_OVERFLOW" json:"max_overflow,omitempty" koanf:"max_overflow" mapstructure:"max_overflow" yaml:"max_overflow,omitempty"`
	// AcquireTimeout is the longest wait for a connection, including the time to open one. The error is an
	// [*AcquireTimeoutError]. Default: 30 s. Off leaves only the deadline of ctx.
	AcquireTimeout time.Duration `env:"ACQUIRE_TIMEOUT" json:"acquire_timeout,omitempty" koanf:"acquire_timeout" mapstructure:"acquire_timeout" yaml:"acquire_timeout,omitempty"`
	// MaxWaiting is the number of callers that may wait for a connection. While that many wait, further callers fail at once with an
	// [*OverloadError]. Callers that arrive at the same moment may exceed it by a few. Default: 0, which is no limit.
	MaxWaiting int `env:"MAX_WAITING" json:"max_waiting,omitempty" koanf:"max_waiting" mapstructure:"max_waiting" yaml:"max_waiting,omitempty"`
	// MaxConnLifetime is the age at which a connection is recycled. Default: 1 h. Off disables recycling by age.
	MaxConnLifetime time.Duration `env:"MAX_CONN_LIFETIME" json:"max_conn_lifetime,omitempty" koanf:"max_conn_lifetime" mapstructure:"max_conn_lifetime" yaml:"max_conn_lifetime,omitempty"`
	// MaxConnLifetimeJitter is the largest random time added to MaxConnLifetime, in whole seconds. Default: 10 % of
	// MaxConnLifetime. Off disables jitter.
	MaxConnLifetimeJitter time.Duration `env:"MAX_CONN_LIFETIME_JITTER" json:"max_conn_lifetime_jitter,omitempty" koanf:"max_conn_lifetime_jitter" mapstructure:"max_conn_lifetime_jitter" yaml:"max_conn_lifetime_jitter,omitempty"`
	// MaxConnIdleTime is the idle time after which connections beyond MinConns are closed. Default: 30 min. Off keeps idle
	// connections open.
	MaxConnIdleTime time.Duration `env:"MAX_CONN_IDLE_TIME" json:"max_conn_idle_time,omitempty" koanf:"max_conn_idle_time" mapstructure:"max_conn_idle_time" yaml:"max_conn_idle_time,omitempty"`
}

// TimeoutConfig bounds connecting and validation on the client, and statements on the server. The server's settings have a
// resolution of 1 ms and a maximum of 24 days.
type TimeoutConfig struct {
	// Connect is the longest time to open one connection to one address, including login. Default: 10 s. Off means no limit.
	Connect time.Duration `env:"CONNECT_TIMEOUT" json:"connect,omitempty" koanf:"connect" mapstructure:"connect" yaml:"connect,omitempty"`
	// Validate is the longest time that connection validation may take. An acquired connection that was idle for more than
	// 1 s is validated first. A connection that took longer than this to open has as much time as that, up to four times
	// this. Default: 500 ms. Off disables validation.
	Validate time.Duration `env:"VALIDATE_TIMEOUT" json:"validate,omitempty" koanf:"validate" mapstructure:"validate" yaml:"validate,omitempty"`
	// TCPUser sets TCP_USER_TIMEOUT (Linux): how long sent data may stay unacknowledged before the connection is closed.
	// It ends statements whose server has vanished. Default: 30 s. Off leaves the kernel's limit, about 15 min.
	TCPUser time.Duration `env:"TCP_USER_TIMEOUT" json:"tcp_user,omitempty" koanf:"tcp_user" mapstructure:"tcp_user" yaml:"tcp_user,omitempty"`
	// ClientLost is the time within which the server notices that this client has vanished, and then ends the session and releases
	// its locks. It sets tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count, tcp_user_timeout and
	// client_connection_check_interval in each session on a direct connection. Parameters of the URL take precedence. Unix
	// sockets do not need it. Default: 1 min. Off leaves the server's settings, which by default take 2 h or more.
	ClientLost time.Duration `env:"CLIENT_LOST_TIMEOUT" json:"client_lost,omitempty" koanf:"client_lost" mapstructure:"client_lost" yaml:"client_lost,omitempty"`
	// Cancel is how long a call waits for its statement to end after its ctx has ended. If the statement ends in time, the
	// connection remains usable. Otherwise it is given up. Default: four round trips, at least 50 ms and at most 150 ms.
	Cancel time.Duration `env:"CANCEL_TIMEOUT" json:"cancel,omitempty" koanf:"cancel" mapstructure:"cancel" yaml:"cancel,omitempty"`
	// Statement sets statement_timeout, the longest time that one statement may run. Default: the server's setting.
	// Off sets it to 0, which is no limit. It does not apply to setup steps.
	Statement time.Duration `env:"STATEMENT_TIMEOUT" json:"statement,omitempty" koanf:"statement" mapstructure:"statement" yaml:"statement,omitempty"`
	// Lock sets lock_timeout, the longest time that a statement may wait for one lock. Default: the server's setting.
	// Off sets it to 0, which is no limit.
	Lock time.Duration `env:"LOCK_TIMEOUT" json:"lock,omitempty" koanf:"lock" mapstructure:"lock" yaml:"lock,omitempty"`
	// IdleInTransaction sets idle_in_transaction_session_timeout, the longest time that a transaction may be idle before
	// the server ends its session. Default: the server's setting. Off sets it to 0, which is no limit. It does not apply to
	// setup steps.
	IdleInTransaction time.Duration `env:"IDLE_IN_TRANSACTION_TIMEOUT" json:"idle_in_transaction,omitempty" koanf:"idle_in_transaction" mapstructure:"idle_in_transaction" yaml:"idle_in_transaction,omitempty"`
}

// serverTimeout is a timeout that the server enforces.
type serverTimeout struct {
	field, setting string
	value          time.Duration
}

func (t TimeoutConfig) serverTimeouts() []serverTimeout {
	return []serverTimeout{
		{"Timeouts.Statement", "statement_timeout", t.Statement},
		{"Timeouts.Lock", "lock_timeout", t.Lock},
		{"Timeouts.IdleInTransaction", "idle_in_transaction_session_timeout", t.IdleInTransaction},
	}
}

// StartConfig configures [DB.Start].
type StartConfig struct {
	// Mode is require, optional or lazy. See [StartMode]. Default: require.
	Mode StartMode `env:"MODE" json:"mode,omitempty" koanf:"mode" mapstructure:"mode" yaml:"mode,omitempty"`
	// Timeout is the longest time that a start may take. A start also ends before the deadline of its ctx, by 10 % of the
	// time left or 500 ms, whichever is more. Default: the deadline of ctx, or 15 s if ctx has none.
	Timeout time.Duration `env:"TIMEOUT" json:"timeout,omitempty" koanf:"timeout" mapstructure:"timeout" yaml:"timeout,omitempty"`
}

// StartMode is what a start does while the database cannot be reached.
type StartMode string

const (
	// StartRequire retries until the database can be reached, and fails the start if that takes too long. It is the default.
	StartRequire StartMode = "require"
	// StartOptional makes one attempt. If that fails, the application starts without the database; connecting and the setup
	// steps continue in the background. Until they are done, the pool refuses all other work with [ErrSetupNotFinished].
	StartOptional StartMode = "optional"
	// StartLazy does not wait for the database: connecting and the setup steps run in the background. Until they are done, the
	// pool refuses all other work with [ErrSetupNotFinished]. [DB.AwaitReady] waits for them.
	StartLazy StartMode = "lazy"
)

// RetryConfig configures retries: those of connecting during a start, and those made with [DB.RetryPolicy], such as reads of
// repositories. Each wait is random, between 10 % and 100 % of a maximum that grows exponentially.
type RetryConfig struct {
	// MaxAttempts is the number of attempts, including the first; 1 disables retries. Default: 3, and no limit during a
	// start. Off means no limit.
	MaxAttempts int `env:"MAX_ATTEMPTS" json:"max_attempts,omitempty" koanf:"max_attempts" mapstructure:"max_attempts" yaml:"max_attempts,omitempty"`
	// Delay is the longest wait before the second attempt. Default: 200 ms.
	Delay time.Duration `env:"DELAY" json:"delay,omitempty" koanf:"delay" mapstructure:"delay" yaml:"delay,omitempty"`
	// Multiplier is the factor by which the longest wait grows with each attempt, from 1 to 100. Default: 2.
	Multiplier float64 `env:"MULTIPLIER" json:"multiplier,omitempty" koanf:"multiplier" mapstructure:"multiplier" yaml:"multiplier,omitempty"`
	// MaxDelay is the largest value to which the wait grows. Default: 5 s, or Delay if that is more.
	MaxDelay time.Duration `env:"MAX_DELAY" json:"max_delay,omitempty" koanf:"max_delay" mapstructure:"max_delay" yaml:"max_delay,omitempty"`
	// Budget is the number of retries allowed per call, from 0 to 1, beyond a reserve. The reserve is 10 retries or
	// Pool.MaxConns, whichever is more. Connecting during a start is exempt. See [RetryBudget]. Default: 0.1. Off means
	// no limit.
	Budget float64 `env:"BUDGET" json:"budget,omitempty" koanf:"budget" mapstructure:"budget" yaml:"budget,omitempty"`
}

// HealthConfig configures the monitor of package health.
type HealthConfig struct {
	// Interval is the time between two probes of a healthy database. Default: 30 s. Off disables periodic probes.
	Interval time.Duration `env:"INTERVAL" json:"interval,omitempty" koanf:"interval" mapstructure:"interval" yaml:"interval,omitempty"`
	// Timeout bounds one probe. Default: 5 s.
	Timeout time.Duration `env:"TIMEOUT" json:"timeout,omitempty" koanf:"timeout" mapstructure:"timeout" yaml:"timeout,omitempty"`
}

const (
	defaultMaxConns        = 10
	defaultAcquireTimeout  = 30 * time.Second
	defaultMaxConnLifetime = time.Hour
	lifetimeJitterDivisor  = 10
	defaultMaxConnIdleTime = 30 * time.Minute
	defaultConnectTimeout  = 10 * time.Second
	defaultValidateTimeout = 500 * time.Millisecond
	defaultTCPUserTimeout  = 30 * time.Second
	defaultClientLost      = time.Minute
	defaultStartTimeout    = 15 * time.Second
	defaultRetryDelay      = 200 * time.Millisecond
	defaultRetryMultiplier = 2
	defaultRetryMaxDelay   = 5 * time.Second
	defaultHealthInterval  = 30 * time.Second
	defaultHealthTimeout   = 5 * time.Second
)

// WithDefaults returns a copy of c in which zero fields have their default values. These stay zero: fields whose default is
// decided by the server, the URL or libpq, Start.Timeout, and Retry.MaxAttempts, whose default depends on the use.
func (c Config) WithDefaults() Config {
	setDefault(&c.Pool.MaxConns, max(defaultMaxConns, runtime.NumCPU()))
	setDefault(&c.Pool.AcquireTimeout, defaultAcquireTimeout)
	setDefault(&c.Pool.MaxConnLifetime, defaultMaxConnLifetime)
	if c.Pool.MaxConnLifetime > 0 {
		setDefault(&c.Pool.MaxConnLifetimeJitter, c.Pool.MaxConnLifetime/lifetimeJitterDivisor)
	}
	setDefault(&c.Pool.MaxConnIdleTime, defaultMaxConnIdleTime)
	setDefault(&c.Timeouts.Connect, defaultConnectTimeout)
	setDefault(&c.Timeouts.Validate, defaultValidateTimeout)
	setDefault(&c.Timeouts.TCPUser, defaultTCPUserTimeout)
	setDefault(&c.Timeouts.ClientLost, defaultClientLost)
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

// masked returns a copy of c without secrets. Host is masked too, because URLs are put there by mistake.
func (c Config) masked() Config {
	c.URL, c.Host = redact.ConnString(c.URL), redact.ConnString(c.Host)
	if c.Password != "" {
		c.Password = redact.Mask
	}
	return c
}

// plainConfig is Config without its methods, so that encoders see the fields.
type plainConfig Config

// String returns c as JSON with secrets masked.
func (c Config) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return "pgfx.Config(" + err.Error() + ")"
	}
	return string(text)
}

// Format implements fmt.Formatter. It prints c.String() for every verb, so %+v and %#v show no secrets either.
func (c Config) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, c.String()) }

// MarshalJSON encodes c with secrets masked. Durations are numbers of nanoseconds.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(plainConfig(c.masked())) }

// MarshalYAML implements yaml.Marshaler. It returns c with secrets masked.
func (c Config) MarshalYAML() (any, error) { return plainConfig(c.masked()), nil }
