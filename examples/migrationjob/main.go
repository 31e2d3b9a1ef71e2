// Command migrationjob applies the migrations of an application and exits. Run it as a job before the application's instances,
// which then start with DATABASE_MIGRATE_MODE=check.
//
// DATABASE_URL is the address. The login user must own the tables.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, pgfx.Config{})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// docs: job
func run(ctx context.Context, cfg pgfx.Config) (err error) {
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	db, err := pgfx.Open(cfg, pgfx.WithLogger(logger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(context.WithoutCancel(ctx))) }()
	return migrate.Run(ctx, db, migrations, migrate.WithDir("migrations"), migrate.WithMode(migrate.ModeRun))
}

// docs: end
