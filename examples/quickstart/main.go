// Quickstart is an Fx application with a pool, a repository and transactions.
//
// It starts a local PostgreSQL, which it downloads if none is installed, or uses the one in DATABASE_URL. Its table is in a
// separate schema, which is dropped at the end.
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

// User is a row of the table users. The options after a column name mark values that the database or the library sets.
type User struct {
	ID        uuid.UUID  `db:"id,pk,default"`
	Email     string     `db:"email"`
	Name      string     `db:"name"`
	Balance   int64      `db:"balance"`
	CreatedAt time.Time  `db:"created_at,created"`
	UpdatedAt time.Time  `db:"updated_at,updated"`
	DeletedAt *time.Time `db:"deleted_at,softdelete"`
}

// schema separates the quickstart's table from everything else in the database.
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
		fx.StartTimeout(time.Minute), // the first start may download server binaries
		fx.Provide(newLogger),

		embedded.Module, // a local server, unless DATABASE_URL is set
		rdsfx.Module,    // pool, health, transactions
		pgfx.ProvideSetup(pgfx.SetupSQL("create table", createTable)),
		repo.Provide[User, uuid.UUID](schema+".users"), // *repo.Repository[User, uuid.UUID]

		fx.Invoke(runTour),
	)
	os.Exit(run(app))
}

// run is like app.Run but prints errors. It starts the application, waits for the end of the tour or for Ctrl-C, and stops the
// application.
func run(app *fx.App) int {
	start, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil { // includes an error of fx.New, wrapped in the path of constructors
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

// newLogger logs warnings and errors. The tour prints everything else.
func newLogger() (*zap.Logger, error) {
	config := zap.NewDevelopmentConfig()
	config.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	config.DisableStacktrace = true
	return config.Build()
}
