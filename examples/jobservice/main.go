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
	"net"
	"net/http"
	"os"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
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
		databaseModule(config.Database),
		repositories,
		fx.Supply(Work(writeSections)),
		fx.Provide(newWakeups, NewAPI, NewHandler),
		fx.Invoke(startWorkers, startCleanup, func(lc fx.Lifecycle, handler http.Handler, logger *zap.Logger) {
			serve(lc, config.Addr, handler, logger)
		}),
	)
}

// databaseModule provides two databases: that of the service, and the one named "reporting" for reports. Both are the same server
// unless REPORTING_DATABASE_URL is set.
func databaseModule(config pgfx.Config) fx.Option {
	return fx.Options(
		fx.Supply(config),
		embedded.Module, // a local server; inactive if there is an address
		rdsfx.Module,
		rdsfx.ModuleFor("reporting"),
		migrate.Module(migrations, migrate.WithDir("migrations")),
		fx.StartTimeout(time.Minute), // time for migrations
	)
}

// serve answers HTTP requests from the start of the application to its stop.
func serve(lc fx.Lifecycle, addr string, handler http.Handler, logger *zap.Logger) {
	server := &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", server.Addr)
			if err != nil {
				return err
			}
			logger.Info("serving", zap.String("url", "http://"+listener.Addr().String()))
			go func() {
				if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
					logger.Error("the HTTP server failed", zap.Error(err))
				}
			}()
			return nil
		},
		OnStop: server.Shutdown,
	})
}
