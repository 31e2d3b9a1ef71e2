package rdsfx

import (
	"errors"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Module gives an Fx application its default database: *pgfx.DB, *pgxpool.Pool, *health.Monitor and *txn.Manager, and with
// repo.Provide any number of repositories. Asking for any of them brings all of them to life: the pool, its health monitor
// and the schema check. When nobody asks, nothing is opened.
//
// The address comes from a supplied pgfx.Config, from a pgfx.Endpoint such as embedded.Module provides, or from
// DATABASE_URL. An application that has no *zap.Logger gets no logs.
var Module = ModuleFor("") //nolint:gochecknoglobals // an fx.Option that nobody writes to

// ModuleFor gives an application another database beside the default one. Everything it provides and takes carries the
// name as Fx's name tag: `name:"reporting"`. Its Config may be supplied under that name
// (fx.Supply(fx.Annotate(cfg, fx.ResultTags(`name:"reporting"`)))), else the environment is read, with the name in front:
// REPORTING_DATABASE_URL. What it leaves open is the default database's (see pgfx.Params.Inherit): with nothing but
// REPORTING_DATABASE_NAME it is another database on the same server. Options and setup steps belong to it when they carry
// its name (Option.For, Setup.Database), and repositories when they are provided with repo.WithDatabase.
//
// The empty name is the default database, as in [Module].
func ModuleFor(name string) fx.Option {
	if name != "" && !validName(name) {
		return fx.Error(errors.New("rdsfx: ModuleFor(" + strconv.Quote(name) + "): use letters, digits, - and _ for the name of a database"))
	}
	named, scope := "", "rdsfx"
	if name != "" {
		named, scope = `name:"`+name+`"`, "rdsfx."+name
	}
	optional, private := join(named, `optional:"true"`), `name:"`+scope+`.core"`
	return fx.Module(scope,
		fx.Supply(fx.Annotate(name, fx.ResultTags(`group:"rdsfx.databases"`))),
		// The core is private and the one who makes everything, so that whatever is asked for starts all of it. The
		// public values are only views of it: were they made one by one, a pool could live without its monitor.
		fx.Provide(fx.Private, fx.Annotate(newCore(name),
			fx.ParamTags("", `optional:"true"`, optional, `optional:"true"`, optional, `group:"pgfx.options"`, `group:"pgfx.setup"`,
				`group:"health.observers"`, `group:"txn.options"`, `group:"repo.models"`, `group:"rdsfx.schema"`, `group:"rdsfx.databases"`),
			fx.ResultTags(private))),
		fx.Provide(
			fx.Annotate(publish, fx.ParamTags(private), fx.ResultTags(named, named, named)),
			fx.Annotate(publishMonitor, fx.ParamTags(private, `group:"health.checks"`), fx.ResultTags(named)),
		),
	)
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + " " + b
}

func validName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// core is one database with all that belongs to it.
type core struct {
	db      *pgfx.DB
	monitor *health.Monitor
	tx      *txn.Manager
}

func publish(c *core) (*pgfx.DB, *pgxpool.Pool, *txn.Manager) { return c.db, c.db.Pool(), c.tx }

// publishMonitor gives the monitor other people's checks, which may need the database and so can't be the core's. Only who
// has the monitor can ask for them.
func publishMonitor(c *core, checks []health.Check) *health.Monitor {
	c.monitor.AddChecks(checks...)
	return c.monitor
}

// newCore returns the constructor of a database's core. Hooks are appended in the order in which things have to start:
// the pool with its setup and schema check, then the monitor. They stop the other way round.
func newCore(name string) any {
	return func(
		lc fx.Lifecycle, logger *zap.Logger, cfg, base pgfx.Config, endpoint pgfx.Endpoint, opts []pgfx.Option, setups []pgfx.SetupStep,
		observers []health.Observer, managing []txn.ManagerOption, models []repo.Model, policies []SchemaPolicy, databases []string,
	) (*core, error) {
		if name == slices.Min(databases) { // once is enough
			warnOfStrays(logger, databases, setups, observers)
		}
		setups = append(setups, schemaCheck(name, logger, models, policies))
		params := pgfx.Params{Lifecycle: lc, Config: cfg, Endpoint: endpoint, Logger: logger, Options: opts, Setups: setups}
		database, err := pgfx.New(params.Named(name).Inherit(base))
		if err != nil {
			return nil, err
		}
		watched, err := health.New(health.Params{Lifecycle: lc, DB: database.DB, Logger: logger, Observers: observers})
		if err != nil {
			return nil, err
		}
		transactions, err := txn.New(txn.Params{Lifecycle: lc, DB: database.DB, Logger: logger, Options: managing})
		if err != nil {
			return nil, err
		}
		return &core{db: database.DB, monitor: watched.Monitor, tx: transactions.Manager}, nil
	}
}

// warnOfStrays tells of what never happens because no database has the name that it was given. An application may leave a
// database of its modules out, so that it is no error.
func warnOfStrays(logger *zap.Logger, databases []string, setups []pgfx.SetupStep, observers []health.Observer) {
	if logger == nil {
		return
	}
	warn := func(kind, name, database string) {
		if !slices.Contains(databases, database) {
			logger.Named("rdsfx").Warn("for a database that the application doesn't have", zap.String(kind, name),
				zap.String("database", database), zap.Strings("databases", databases))
		}
	}
	for _, s := range setups {
		warn("setup", s.Name, s.Database)
	}
	for _, o := range observers {
		warn("observer", o.Name, o.Database)
	}
}
