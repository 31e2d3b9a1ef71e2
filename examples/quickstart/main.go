// Quickstart shows the main job of rdsfx on a real PostgreSQL: an Fx application with a pool, a repository and
// transactions. It finds an installed PostgreSQL and runs a server for itself, or uses the one that DATABASE_URL names; its
// tables live in a schema of their own, which is gone at the end.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"go.uber.org/dig"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
)

// User is a row of the table users. The roles behind the column names say what the database and the library fill in.
type User struct {
	ID        uuid.UUID  `db:"id,pk,default"`
	Email     string     `db:"email"`
	Name      string     `db:"name"`
	Balance   int64      `db:"balance"`
	CreatedAt time.Time  `db:"created_at,created"`
	UpdatedAt time.Time  `db:"updated_at,updated"`
	DeletedAt *time.Time `db:"deleted_at,softdelete"`
}

// schema keeps the quickstart's table apart from whatever else is in the database.
const schema = "rdsfx_quickstart"

const createTable = `
create schema if not exists ` + schema + `;
create table if not exists ` + schema + `.users (
	id         uuid primary key default gen_random_uuid(),
	email      text not null unique,
	name       text not null,
	balance    bigint not null default 0 check (balance >= 0),
	created_at timestamptz not null,
	updated_at timestamptz not null,
	deleted_at timestamptz
)`

func main() {
	app := fx.New(
		fx.NopLogger,
		fx.Provide(newLogger),

		embedded.Module, // a local server; it steps aside when DATABASE_URL is set
		rdsfx.Module,    // pool, health, transactions
		pgfx.ProvideSetup(pgfx.SetupStep{Name: "create table", Run: func(ctx context.Context, db *pgfx.DB) error {
			_, err := db.Pool().Exec(ctx, createTable)
			return err
		}}),
		repo.Provide[User, uuid.UUID](schema+".users"), // *repo.Repository[User, uuid.UUID] for everyone

		fx.Invoke(runTour),
	)
	os.Exit(run(app))
}

// run is app.Run with the errors in plain sight: it starts the application, waits until the tour is over or for Ctrl-C, and
// stops it.
func run(app *fx.App) int {
	start, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil { // holds an error of fx.New as well, under the path that led to it
		fmt.Fprintln(os.Stderr, dig.RootCause(err))
		return 1
	}
	code := (<-app.Wait()).ExitCode
	stop, cancel := context.WithTimeout(context.Background(), app.StopTimeout())
	defer cancel()
	if err := app.Stop(stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// newLogger shows warnings and errors; the rest the tour tells by itself.
func newLogger() (*zap.Logger, error) {
	config := zap.NewDevelopmentConfig()
	config.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	return config.Build()
}
