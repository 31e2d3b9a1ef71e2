package fxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// App is a started application on its own database.
type App struct {
	// App is the Fx application. New starts it, and a cleanup of the test stops it.
	App *fx.App

	DB     *pgfx.DB
	Pool   *pgxpool.Pool
	Tx     *txn.Manager
	Health *health.Monitor
}

// New creates a database for the test, as [URL] does, and starts an application with the options that [Fx] adds. If they do
// not contain rdsfx.Module, New adds it. A repository whose model does not match the schema fails the start.
//
// The application always uses the test's database, even if it supplies a Config or a pgfx.Endpoint, or DATABASE_URL is set. Each
// database of rdsfx.ModuleFor gets a separate database on the test server, which is empty unless [ForDatabase] describes it.
// Logs are discarded unless the application provides a *zap.Logger; [Logger] provides one.
//
// In a closure of a transaction, a statement with another context than the closure's fails with txn.ErrOuterContext
// (txn.WithContextCheck).
//
// At the end of the test, the application is stopped. Goroutines that are still running then are errors of the test. So are
// connections that are still held a second after the application's own stop hooks.
func New(tb testing.TB, opts ...Option) *App {
	tb.Helper()
	s := mustCollect(tb, opts)
	names, known := databasesOf(s.fx)
	if known { // otherwise the error below is the cause
		if err := s.checkDatabases(names); err != nil {
			tb.Fatalf("fxtest: %v", err)
		}
	}
	endpoint := pgfx.Endpoint{URL: databaseURL(tb, s), Override: true}
	named := namedDatabases(tb, s, names)
	label := labelGoroutine()
	app := &App{}
	fxOpts := []fx.Option{
		rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail),
		checkContexts(names),
		fx.Replace(endpoint), // the application may provide one, such as that of embedded.Module
		pgfx.ProvideOptions(append(s.pool, Recording())...),
		named,
		fx.StartTimeout(setupTimeout), fx.StopTimeout(cleanupTimeout),
		fx.Populate(&app.DB, &app.Pool, &app.Tx, &app.Health),
		fx.WithLogger(func() fxevent.Logger { return &fxevent.ZapLogger{Logger: zap.NewNop()} }),
	}
	if !slices.Contains(names, "") {
		fxOpts = append(fxOpts, rdsfx.Module)
	}
	if s.config != (pgfx.Config{}) {
		fxOpts = append(fxOpts, fx.Replace(s.config))
	}
	app.App = fx.New(append(fxOpts, s.fx...)...)
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if err := app.App.Start(ctx); err != nil { // includes an error of fx.New
		if app.DB != nil { // Fx calls no stop hook of a DB that it did not start
			_ = app.DB.Close(ctx)
		}
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() { closeAndReport(tb, app.DB, label, app.App.Stop) })
	return app
}

// errDatabasesKnown ends the construction of an application that only lists its databases.
var errDatabasesKnown = errors.New("databases are known")

// checkContexts makes closures of transactions fail that use a context which doesn't carry their transaction, on every database.
func checkContexts(names []string) fx.Option {
	opts := []txn.ManagerOption{txn.WithContextCheck(txn.PoolUseInTxError)}
	for _, name := range names {
		opts = append(opts, txn.WithContextCheck(txn.PoolUseInTxError).For(name))
	}
	return txn.ProvideOptions(opts...)
}

// databasesOf returns the names of the databases that the options provide, "" for the default one. known is false if the options have
// an error. It runs no constructor and no Invoke of theirs: Fx runs the Invoke of the first module first, and its error ends the
// construction.
func databasesOf(opts []fx.Option) (names []string, known bool) {
	type databases struct {
		fx.In

		Names []string `group:"rdsfx.databases"`
	}
	list := fx.Module("fxtest", fx.Invoke(func(d databases) error {
		names, known = d.Names, true
		return errDatabasesKnown
	}))
	fx.New(list, fx.Options(opts...), fx.NopLogger) // New reports other errors when it constructs the application
	return names, known
}

// checkDatabases returns an error for a [ForDatabase] that names a database which the application does not have.
func (s settings) checkDatabases(names []string) error {
	for name := range s.named {
		if !slices.Contains(names, name) {
			return fmt.Errorf("ForDatabase(%q): the application has no such database (known: %q); add rdsfx.ModuleFor(%q) to the options of Fx",
				name, slices.Sorted(slices.Values(names)), name)
		}
	}
	return nil
}

// namedDatabases creates the databases of rdsfx.ModuleFor and returns the options that lead the application to them.
func namedDatabases(tb testing.TB, s settings, names []string) fx.Option {
	tb.Helper()
	var opts []fx.Option
	for _, name := range names {
		if name == "" {
			continue
		}
		database := s.named[name]
		endpoint := pgfx.Endpoint{URL: databaseURL(tb, database), Override: true}
		for _, opt := range append(slices.Clone(database.pool), Recording(), pgfx.WithEndpoint(endpoint)) {
			opts = append(opts, pgfx.ProvideOptions(opt.For(name)))
		}
		if database.config != (pgfx.Config{}) {
			opts = append(opts, fx.Replace(fx.Annotate(database.config, fx.ResultTags(`name:"`+name+`"`))))
		}
	}
	return fx.Options(opts...)
}

// Logger sends the application's logs to the log of the test.
func Logger(tb testing.TB) Option { //nolint:thelper // it returns an option
	return Fx(fx.Supply(zaptest.NewLogger(tb)))
}
