package pgfx

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// Option changes what a [Config] cannot express. Pass options to [Open], or to Fx with [ProvideOptions]. The zero Option does
// nothing.
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
	topology      TopologyFunc

	authenticators []Authenticator
}

// For returns a copy of o that applies only to the database with this name (see [WithName] and rdsfx.ModuleFor). Without For,
// an option that is passed to [Open] applies to the database that Open returns. An option that is provided to Fx applies to
// the default database.
func (o Option) For(database string) Option {
	o.database = database
	return o
}

// Database returns the name that [Option.For] set, or "".
func (o Option) Database() string { return o.database }

// collectOptions applies the options that belong to the database being opened.
func collectOptions(opts []Option) options {
	var all, own options
	for _, opt := range opts { // first, because WithName may follow options for a named database
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

// WithBase sets the [Config] from which a named database inherits the fields that its own Config leaves zero. A Config with
// URL or Host takes no part of the base's address. A Config with other parts of an address, such as Database alone, replaces
// those parts. SearchPath and Role are never inherited. The DATABASE_… variables complete the base. WithBase has no effect on
// the default database.
func WithBase(base Config) Option {
	return Option{apply: func(o *options) { o.base = base }}
}

// WithEndpoint sets the server's address for a [Config] that has none, as embedded.Module and fxtest do through Fx. See
// [Endpoint] for its precedence.
func WithEndpoint(endpoint Endpoint) Option {
	return Option{apply: func(o *options) { o.endpoint = endpoint }}
}

// WithLogger sets the logger, to which "pgfx" is added as a name. Default: no log. With Fx the default is the application's
// *zap.Logger.
func WithLogger(logger *zap.Logger) Option {
	return Option{apply: func(o *options) { o.logger = logger }}
}

// WithBeforeConnect adds a function that may change the configuration of each new connection, in the pool and outside it. Use
// it to set credentials, a TLS configuration or a dialer. Its changes take precedence over the [Config]. Functions
// run in the order in which they were added. An error fails the attempt to connect. ctx ends with the attempt. fn must be
// safe for concurrent use and must not set the tracer; use [WithTracer]. It can't change the exec mode; set [Config.ExecMode].
func WithBeforeConnect(fn func(context.Context, *pgx.ConnConfig) error) Option {
	return Option{apply: func(o *options) { o.beforeConnect = append(o.beforeConnect, fn) }}
}

// WithAfterConnect adds a function that prepares each new connection, in the pool and outside it, for example to register
// types or to set session state. Functions run in the order in which they were added. An error closes the connection and
// fails the attempt to connect. ctx ends with the attempt. fn must be safe for concurrent use.
func WithAfterConnect(fn func(context.Context, *pgx.Conn) error) Option {
	return Option{apply: func(o *options) { o.afterConnect = append(o.afterConnect, fn) }}
}

// WithTracer adds a pgx tracer for the connections of the pool. It may implement any tracer interface of pgx and pgxpool, and
// must be safe for concurrent use.
func WithTracer(tracer pgx.QueryTracer) Option {
	return Option{apply: func(o *options) { o.tracers = append(o.tracers, tracer) }}
}

// WithSetup adds setup steps, which run once during [DB.Start], after the first connection has been opened.
func WithSetup(setups ...SetupStep) Option {
	return Option{apply: func(o *options) { o.setups = append(o.setups, setups...) }}
}

// SetupStep is work that runs between the first connection and the start of the rest of the application, such as migrations,
// seed data or checks.
type SetupStep struct {
	// Name describes the step in logs and errors, for example "create tables".
	Name string
	// Order sorts the steps of a database, lowest first. Steps with equal Order run in the order of their names. Default: 0.
	Order int
	// Run does the work. It runs on every start of every instance of the application, so it must be idempotent and must lock
	// what instances cannot do concurrently. Use ctx, or a context made from it, for all statements: the pool refuses other
	// contexts with [ErrSetupNotFinished] until all steps have run. ctx ends at the deadline of the start; in the background,
	// when the DB is closed.
	//
	// Timeouts.Statement and Timeouts.IdleInTransaction do not apply to statements with ctx, because they are meant for
	// requests. Timeouts.Lock applies. Limits that the server sets for the user or the database apply as well.
	Run func(ctx context.Context, db *DB) error

	database string
}

// SetupSQL returns a setup step that runs a script of SQL statements, such as "create table if not exists …". PostgreSQL runs the
// script as one transaction unless it controls transactions itself. The script runs on every start of every instance, so it must
// be idempotent. Use package pgfx/migrate for schemas that change.
func SetupSQL(name, script string) SetupStep {
	return SetupStep{Name: name, Run: func(ctx context.Context, db *DB) error {
		_, err := db.pool.Exec(ctx, script)
		return err //nolint:wrapcheck // the start adds the name of the step
	}}
}

// For returns a copy of s that belongs to the database with this name (see rdsfx.ModuleFor). Without For, a step that is
// passed to [WithSetup] belongs to the database that gets the option. A step that is provided to Fx belongs to the default
// database.
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
