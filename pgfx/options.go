package pgfx

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"
	"go.uber.org/zap"
)

// Option adds behaviour to a database that configuration can't express. Options are handed to [Open], or given to Fx with
// [ProvideOptions]; those in Fx apply to the default database unless [Option.For] names another.
type Option struct {
	database string
	apply    func(*options)
}

type options struct {
	logger        *zap.Logger
	beforeConnect []func(context.Context, *pgx.ConnConfig) error
	afterConnect  []func(context.Context, *pgx.Conn) error
	tracers       []pgx.QueryTracer
	setups        []SetupStep
	types         []string
}

// For returns a copy of the option that applies to the database of this name instead (see rdsfx.ModuleFor).
func (o Option) For(database string) Option {
	o.database = database
	return o
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
	// Database is the name of the database that it belongs to, "" for the default one.
	Database string
	// Order sorts the steps of a database, small first; steps of the same order run in the order of their names.
	Order int
	// Run does the work. It runs on every start, in every instance of the application, so that it must be idempotent and
	// must lock what it can't share. ctx ends at the start's deadline, in a Degraded or Lazy start with the application.
	Run func(ctx context.Context, db *DB) error
}

const (
	optionsGroup = `group:"pgfx.options"`
	setupGroup   = `group:"pgfx.setup"`
)

// Options gives options to the databases of an Fx application.
func ProvideOptions(opts ...Option) fx.Option { return supplyGroup(optionsGroup, opts) }

// ProvideSetup gives setup steps to the databases of an Fx application. A step that needs something from Fx is provided by a
// constructor with the result tag `group:"pgfx.setup"`.
func ProvideSetup(setups ...SetupStep) fx.Option { return supplyGroup(setupGroup, setups) }

func supplyGroup[T any](group string, values []T) fx.Option {
	supplied := make([]any, len(values))
	for i, value := range values {
		supplied[i] = fx.Annotate(value, fx.ResultTags(group))
	}
	return fx.Supply(supplied...)
}
