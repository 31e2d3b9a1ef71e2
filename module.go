package rdsfx

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/deadline"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Module provides an Fx application's default database: *pgfx.DB, *pgxpool.Pool, *health.Monitor and *txn.Manager. Add
// repositories with repo.Provide.
//
// Requesting any of these values starts all of them with the application: the pool, its setup steps, the schema check and the
// monitor. If no value is requested, no connection is opened.
//
// The server's address comes from a supplied pgfx.Config, from a pgfx.Endpoint such as embedded.Module provides, or from
// DATABASE_URL. Variables complete a supplied pgfx.Config (see pgfx.Open). Without a *zap.Logger in the application,
// warnings and errors are logged to stderr; supply zap.NewNop() for silence.
var Module = ModuleFor("") //nolint:gochecknoglobals // an fx.Option that nothing writes to

// ModuleFor provides another database beside the default one. Its values carry the name as Fx's name tag:
// `name:"reporting"`. The empty name is the default database, as in [Module].
//
// Configure a named database in one of three ways:
//
//   - Supply a pgfx.Config with the same name tag: fx.Supply(fx.Annotate(cfg, fx.ResultTags(`name:"reporting"`))).
//   - Set environment variables with the name as prefix, such as REPORTING_DATABASE_URL.
//   - Set only what differs from the default database, such as REPORTING_DATABASE_NAME for another database on the same server.
//     The default database's Config completes it (see pgfx.WithBase).
//
// Call the method For on options, setup steps, observers and checks to pass them to a named database. For repositories use
// repo.WithDatabase.
func ModuleFor(name string) fx.Option {
	if name != "" && !isValidName(name) {
		return fx.Error(errors.New("rdsfx: ModuleFor(" + strconv.Quote(name) + "): name the database with letters, digits, - and _ only"))
	}
	tag, optional, scope := "", `optional:"true"`, "rdsfx"
	if name != "" {
		tag, scope = `name:"`+name+`"`, "rdsfx."+name
		optional = tag + " " + optional
	}
	return fx.Module(scope,
		fx.Supply(fx.Annotate(name, fx.ResultTags(`group:"rdsfx.databases"`))),
		// One private constructor makes all of a database, and the public values are taken from its result. With separate
		// constructors, a pool could run without its monitor.
		fx.Provide(fx.Private,
			func() databaseName { return databaseName(name) },
			fx.Annotate(func(cfg pgfx.Config) ownConfig { return ownConfig{cfg} }, fx.ParamTags(optional)),
			newFxDatabase,
		),
		fx.Provide(
			fx.Annotate(func(d fxDatabase) (*pgfx.DB, *pgxpool.Pool, *txn.Manager) { return d.DB, d.DB.Pool(), d.Tx },
				fx.ResultTags(tag, tag, tag)),
			fx.Annotate(monitorWithChecks, fx.ParamTags("", "", `group:"health.checks"`), fx.ResultTags(tag)),
		),
	)
}

func isValidName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// These types make values private to one ModuleFor. A name tag cannot do that, because the tags of an fx.In struct are known at
// compile time.
type (
	databaseName string
	ownConfig    struct{ pgfx.Config }
	fxDatabase   struct{ *Database }
)

// params are the inputs of a database. A value group holds the values of all databases.
type params struct {
	fx.In

	Name      databaseName
	Databases []string `group:"rdsfx.databases"`
	Lifecycle fx.Lifecycle
	Logger    *zap.Logger `optional:"true"`

	Config   ownConfig
	Base     pgfx.Config   `optional:"true"` // the default database's
	Endpoint pgfx.Endpoint `optional:"true"`

	PoolOptions    []pgfx.Option       `group:"pgfx.options"`
	Setups         []pgfx.SetupStep    `group:"pgfx.setup"`
	Observers      []health.Observer   `group:"health.observers"`
	TxOptions      []txn.ManagerOption `group:"txn.options"`
	Models         []repo.Model        `group:"repo.models"`
	SchemaPolicies []SchemaPolicy      `group:"rdsfx.schema"`
	Extensions     []Extension         `group:"rdsfx.extensions"`
}

// newFxDatabase opens a database and appends its hooks. The stop hook comes first: Fx does not run the stop hook that belongs to
// a start hook which failed.
func newFxDatabase(p params) (fxDatabase, error) {
	name := string(p.Name)
	if p.Logger == nil {
		p.Logger = stderrLogger()
	}
	pool := []pgfx.Option{pgfx.WithLogger(p.Logger), pgfx.WithBase(p.Base), pgfx.WithEndpoint(p.Endpoint)}
	pool = append(append(pool, forDatabase(name, p.PoolOptions)...), pgfx.WithSetup(forDatabase(name, p.Setups)...), pgfx.WithName(name))
	d, err := Open(p.Config.Config, WithPool(pool...), WithHealth(health.WithObservers(forDatabase(name, p.Observers)...)),
		WithTx(forDatabase(name, p.TxOptions)...), WithModels(forDatabase(name, p.Models)...),
		WithSchemaPolicy(slices.Max(append(p.SchemaPolicies, SchemaWarn))))
	if err != nil {
		p.logError("database not configured", err)
		return fxDatabase{}, err
	}
	detach, err := attach(d, p.Extensions)
	if err != nil {
		p.logError("database not configured", err)
		return fxDatabase{}, errors.Join(err, d.Close(context.Background())) // no connection exists yet, so Close cannot block
	}
	p.Lifecycle.Append(fx.StopHook(func(ctx context.Context) error {
		ctx, cancel := deadline.WithMargin(ctx) // for the stop hooks that run after this one
		defer cancel()
		defer detach()
		return d.Close(ctx)
	}))
	if name == slices.Min(p.Databases) { // one database logs for all
		p.Lifecycle.Append(fx.StartHook(p.warnAboutUnknownDatabases))
	}
	p.Lifecycle.Append(fx.StartHook(func(ctx context.Context) error {
		err := d.Start(ctx)
		if err != nil {
			p.logError("database not started", err)
		}
		return err
	}))
	return fxDatabase{d}, nil
}

// logError logs why the application cannot start. Fx logs the error too, but among the names of its constructors.
func (p params) logError(message string, err error) {
	fields := []zap.Field{zap.Error(err)}
	if p.Name != "" {
		fields = append(fields, zap.String("database_name", string(p.Name)))
	}
	logger := p.Logger.Named("rdsfx").WithOptions(zap.AddStacktrace(zapcore.FatalLevel)) // the stack holds only Fx's internals
	logger.Error(message, fields...)
}

// monitorWithChecks adds the application's checks to the monitor. They are no input of newFxDatabase, because a check may
// itself need the database.
func monitorWithChecks(d fxDatabase, name databaseName, checks []health.Check) *health.Monitor {
	d.Health.AddChecks(forDatabase(string(name), checks)...)
	return d.Health
}

// forDatabase returns the values that belong to a database.
func forDatabase[T interface{ Database() string }](name string, values []T) []T {
	return slices.DeleteFunc(slices.Clone(values), func(value T) bool { return value.Database() != name })
}

// warnAboutUnknownDatabases logs each value that names a database which the application does not have. That is no error: an
// application may leave out the module of a database for which other modules provide values.
func (p params) warnAboutUnknownDatabases() {
	warn := func(message, database string, fields ...zap.Field) {
		if !slices.Contains(p.Databases, database) {
			fields = append(fields, zap.String("database", database), zap.Strings("known", slices.Sorted(slices.Values(p.Databases))))
			p.Logger.Named("rdsfx").Warn(message, fields...)
		}
	}
	for _, step := range p.Setups {
		warn("setup step targets unknown database", step.Database(), zap.String("setup", step.Name))
	}
	for _, observer := range p.Observers {
		warn("health observer targets unknown database", observer.Database(), zap.String("observer", observer.Name))
	}
	for _, model := range p.Models {
		warn("repository targets unknown database", model.Database(), zap.String("table", model.Table()))
	}
	for _, opt := range p.PoolOptions {
		warn("pool option targets unknown database", opt.Database())
	}
	for _, opt := range p.TxOptions {
		warn("transaction option targets unknown database", opt.Database())
	}
}
