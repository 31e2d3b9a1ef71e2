package fxtest

import (
	"context"
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

// New creates a database for the test, as [URL] does, and starts an application with rdsfx.Module and the options that [Fx]
// adds. A repository whose model does not match the schema fails the start.
//
// The application always uses the test's database, even if it supplies a Config or DATABASE_URL is set. Logs are discarded
// unless the application provides a *zap.Logger; [Logger] provides one.
//
// At the end of the test, the application is stopped. Connections that were not released and goroutines that are still
// running are reported as errors of the test.
func New(tb testing.TB, opts ...Option) *App {
	tb.Helper()
	s := mustCollect(tb, opts)
	endpoint := pgfx.Endpoint{URL: databaseURL(tb, s), Override: true}
	label := labelGoroutine()
	app := &App{}
	fxOpts := []fx.Option{
		rdsfx.Module,
		rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail),
		fx.Supply(endpoint),
		pgfx.ProvideOptions(append(s.pool, Recording())...),
		fx.StartTimeout(setupTimeout), fx.StopTimeout(cleanupTimeout),
		fx.Populate(&app.DB, &app.Pool, &app.Tx, &app.Health),
		fx.WithLogger(func() fxevent.Logger { return &fxevent.ZapLogger{Logger: zap.NewNop()} }),
	}
	if s.config != (pgfx.Config{}) {
		fxOpts = append(fxOpts, fx.Supply(s.config))
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

// Logger sends the application's logs to the log of the test.
func Logger(tb testing.TB) Option { //nolint:thelper // it returns an option
	return Fx(fx.Supply(zaptest.NewLogger(tb)))
}
