package pgfx

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// Option sets what a [Config] can't express. Pass options to [Open], or to Fx with [ProvideOptions].
type Option struct {
	database string
	apply    func(*options)
}

type options struct {
	name          string
	base          Config
	endpoint      Endpoint
	logger        *zap.Logger
	beforeConnect []func(context.Context, *pgx.ConnConfig) error
	afterConnect  []func(context.Context, *pgx.Conn) error
	tracers       []pgx.QueryTracer
	setups        []SetupStep
	types         []string
}

// For returns a copy of o that applies to the database with this name only (see [WithName] and rdsfx.ModuleFor). Without
// For, an option that is passed to [Open] applies to the database that Open returns, and an option that is provided to Fx
// applies to the default database.
func (o Option) For(database string) Option {
	o.database = database
	return o
}

// Database returns the name that [Option.For] set, or "".
func (o Option) Database() string { return o.database }

// collectOptions applies those options that belong to the database being opened.
func collectOptions(opts []Option) options {
	var all, own options
	for _, opt := range opts { // WithName may stand behind options for a named database
		if opt.apply != nil && opt.database == "" {
			opt.apply(&all)
		}
	}
	for _, opt := range opts {
		if opt.apply != nil && (opt.database == "" || opt.database == all.name) {
			opt.apply(&own)
		}
	}
	own.name = all.name
	own.setups = slices.DeleteFunc(own.setups, func(s SetupStep) bool { return s.database != "" && s.database != own.name })
	return own
}

// WithName names the database in the application. The name is the prefix of its environment variables
// (REPORTING_DATABASE_URL for "reporting"), selects the options made with For and appears in log lines. Default: "", the
// default database. rdsfx.ModuleFor sets it.
func WithName(name string) Option {
	return Option{apply: func(o *options) { o.name = name }}
}

// WithBase sets the [Config] from which a named database takes what its own Config leaves open. A Config with a URL or a Host
// takes nothing of the base's address. One with other parts of an address, such as Database alone, replaces those parts.
// SearchPath and Role are never inherited. Default: the Config that DATABASE_… variables describe. It has no effect on the
// default database.
func WithBase(base Config) Option {
	return Option{apply: func(o *options) { o.base = base }}
}

// WithEndpoint sets the server's address for a [Config] that has none, as embedded.Module and fxtest do through Fx. See
// [Endpoint] for its precedence.
func WithEndpoint(endpoint Endpoint) Option {
	return Option{apply: func(o *options) { o.endpoint = endpoint }}
}

// WithLogger sets the logger; it is named "pgfx". Default: none. With Fx the application's *zap.Logger is used.
func WithLogger(logger *zap.Logger) Option {
	return Option{apply: func(o *options) { o.logger = logger }}
}

// WithBeforeConnect adds a function that may change the configuration of each new connection, in the pool and outside it:
// to set credentials, a TLS configuration or a dialer. An error fails the attempt. It must be safe for concurrent use; its
// ctx ends with the attempt.
func WithBeforeConnect(fn func(context.Context, *pgx.ConnConfig) error) Option {
	return Option{apply: func(o *options) { o.beforeConnect = append(o.beforeConnect, fn) }}
}

// WithAfterConnect adds a function that prepares each new connection, in the pool and outside it: to register types or
// set session state. An error closes the connection and fails the attempt.
func WithAfterConnect(fn func(context.Context, *pgx.Conn) error) Option {
	return Option{apply: func(o *options) { o.afterConnect = append(o.afterConnect, fn) }}
}

// WithTracer adds a pgx tracer beside the library's own. It may implement any of pgx's and pgxpool's tracer interfaces.
func WithTracer(tracer pgx.QueryTracer) Option {
	return Option{apply: func(o *options) { o.tracers = append(o.tracers, tracer) }}
}

// WithSetup adds steps that run once, after the first connection and before anybody else's start hook.
func WithSetup(setups ...SetupStep) Option {
	return Option{apply: func(o *options) { o.setups = append(o.setups, setups...) }}
}

// Setup is a step between the first connection and the rest of the application: DDL, migrations, seeds, checks.
type SetupStep struct {
	// Name says in logs and errors what it does, for example "create tables".
	Name string
	// Order sorts the steps of a database, small first; steps of the same order run in the order of their names.
	Order int
	// Run does the work. It runs on every start, in every instance of the application, so that it must be idempotent and
	// must lock what it can't share. ctx ends at the start's deadline, in a Degraded or Lazy start with the application.
	Run func(ctx context.Context, db *DB) error

	database string
}

// For returns a copy of s that belongs to the database with this name (see rdsfx.ModuleFor). Without For, a step that is
// passed to [WithSetup] belongs to the database that gets the option, and a step that is provided to Fx belongs to the
// default database.
func (s SetupStep) For(database string) SetupStep {
	s.database = database
	return s
}

// Database returns the name that [SetupStep.For] set, or "".
func (s SetupStep) Database() string { return s.database }

// ProvideOptions passes options to the databases that rdsfx.Module and rdsfx.ModuleFor provide: to the default database
// unless [Option.For] names another.
func ProvideOptions(opts ...Option) fx.Option { return fxgroup.Supply("pgfx.options", opts...) }

// ProvideSetup passes setup steps to the databases that rdsfx.Module and rdsfx.ModuleFor provide: to the default database
// unless [SetupStep.For] names another. If a step needs a value from Fx, provide it with a constructor that has the result tag
// `group:"pgfx.setup"`.
func ProvideSetup(setups ...SetupStep) fx.Option { return fxgroup.Supply("pgfx.setup", setups...) }
