package fxtest

import (
	"context"
	"errors"
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

// App is a started application on a database of its own.
type App struct {
	// App is Fx's application. The test doesn't start or stop it: New and its cleanup do.
	App *fx.App

	DB     *pgfx.DB
	Pool   *pgxpool.Pool
	Tx     *txn.Manager
	Health *health.Monitor
}

// New starts an application that includes rdsfx.Module and what [Fx] adds, on a database of its own (see [DB]). At the
// end of the test the application is stopped; connections that are still held or open are reported, and goroutines that
// outlive the stop. Models that don't fit the schema fail the start. Logs are dropped unless the application has a
// *zap.Logger; [Logger] gives it one.
//
// The database is the test's own even when the application supplies a Config or DATABASE_URL is set.
func New(tb testing.TB, opts ...Option) *App {
	tb.Helper()
	s, err := collect(opts)
	if err != nil {
		tb.Fatalf("fxtest: %v", err)
	}
	endpoint := pgfx.Endpoint{URL: address(tb, s), Override: true}
	id := label()
	app := &App{}
	fxOpts := []fx.Option{
		rdsfx.Module,
		rdsfx.SchemaDriftFails(),
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
	if err := app.App.Start(ctx); err != nil { // holds an error of fx.New as well
		if app.DB != nil { // made, and perhaps never started: Fx runs no hook for it then
			_ = app.DB.Close(ctx)
		}
		tb.Fatalf("fxtest: %v", err)
	}
	tb.Cleanup(func() {
		if app.stop(tb) {
			reportGoroutines(tb, id)
		}
	})
	return app
}

// stop reports whether everything that the application held came back.
func (a *App) stop(tb testing.TB) (clean bool) {
	tb.Helper()
	timeout := cleanupTimeout
	if clean = reportLeases(tb, a.DB); !clean {
		timeout = leakTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := a.App.Stop(ctx)
	if _, held := errors.AsType[*pgfx.CloseTimeoutError](err); err != nil && !held { // those have been reported
		tb.Errorf("fxtest: stop: %v", err)
	}
	return clean
}

// Logger is an Fx option that sends an application's logs to the test's log.
func Logger(tb testing.TB) Option { //nolint:thelper // an option and no helper
	return Fx(fx.Supply(zaptest.NewLogger(tb)))
}
