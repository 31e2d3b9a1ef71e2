// Jobservice is an HTTP service that keeps users, jobs and the metadata of files in PostgreSQL.
//
//	go run ./examples/jobservice
//
// README.md describes it.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
	"github.com/rdsfx-go/rdsfx/txn"
)

//go:embed migrations/*.sql
var migrations embed.FS

func main() {
	config, err := readConfig(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(fx.New(fx.NopLogger, fx.Provide(newLogger), serviceModule(config)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, dig.RootCause(err))
		os.Exit(1)
	}
}

// run runs the application until Ctrl-C or SIGTERM, and returns why it could not start or stop.
func run(app *fx.App) error {
	start, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil {
		return err
	}
	<-app.Wait()
	stop, cancel := context.WithTimeout(context.Background(), app.StopTimeout())
	defer cancel()
	return app.Stop(stop)
}

// newLogger logs text. Use zap.NewProduction for JSON.
func newLogger() (*zap.Logger, error) {
	config := zap.NewDevelopmentConfig()
	config.Level.SetLevel(zap.InfoLevel)
	config.DisableCaller, config.DisableStacktrace = true, true
	return config.Build()
}

// serviceModule is the whole service but for its logger.
func serviceModule(config Config) fx.Option {
	return fx.Options(
		fx.Supply(config.Workers, config.Cleanup),
		databaseModule(config),
		observed,
		repositories,
		fx.Supply(Work(writeSections), address(config.Addr)),
		fx.Provide(newWakeups, NewAPI, NewHandler, newServer),
		fx.Invoke(startWorkers, startCleanup, func(*Server) {}),
	)
}

// databaseModule provides the database of the service, and a *txn.Manager named "reporting" for reports.
func databaseModule(config Config) fx.Option {
	reporting := fx.Provide(fx.Annotate(func(tx *txn.Manager) *txn.Manager { return tx }, fx.ResultTags(`name:"reporting"`)))
	if config.Reporting != "" {
		reporting = fx.Options(
			rdsfx.ModuleFor("reporting"),
			fx.Supply(fx.Annotate(pgfx.Config{URL: config.Reporting}, fx.ResultTags(`name:"reporting"`))),
		)
	}
	return fx.Options(
		fx.Supply(config.Database),
		embedded.Module, // a local server; inactive if there is an address
		rdsfx.Module,
		reporting,
		migrate.Module(migrations, migrate.WithDir("migrations")),
		fx.StartTimeout(time.Minute), // time for migrations
	)
}
