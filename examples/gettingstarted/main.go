// docs: main.go

// Bank is a small HTTP service on PostgreSQL.
package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

func main() {
	fx.New(
		fx.Provide(newLogger),
		fx.WithLogger(func(logger *zap.Logger) fxevent.Logger { return startErrors{logger} }),
		embedded.Module, // a local server; inactive if DATABASE_URL is set
		rdsfx.Module,    // pool, health monitor, transactions
		migrate.Module(migrations, migrate.WithDir("migrations")),
		bankModule,
		fx.Provide(NewHandler),
		fx.Invoke(serve),
		health.DrainOnStop(time.Second), // the last option: readyz fails first, then the server stops
	).Run()
}

// newLogger logs text. Use zap.NewProduction for JSON.
func newLogger() (*zap.Logger, error) {
	config := zap.NewDevelopmentConfig()
	config.Level.SetLevel(zap.InfoLevel)
	config.DisableCaller, config.DisableStacktrace = true, true
	return config.Build()
}

// startErrors logs why the application does not start, such as a port in use. All other events of Fx are dropped.
type startErrors struct{ logger *zap.Logger }

// LogEvent is called by Fx.
func (s startErrors) LogEvent(event fxevent.Event) {
	if started, ok := event.(*fxevent.Started); ok && started.Err != nil {
		s.logger.Error("not started", zap.Error(dig.RootCause(started.Err)))
	}
}

// serve answers HTTP requests from the start of the application to its stop. Fx calls hooks in the order of their
// dependencies, so the database is ready before the first request and closed after the last.
func serve(lc fx.Lifecycle, handler http.Handler, logger *zap.Logger) {
	server := &http.Server{Addr: cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"), Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", server.Addr)
			if err != nil {
				return err
			}
			logger.Info("serving", zap.String("url", "http://"+server.Addr))
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

// docs: end
