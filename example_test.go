package rdsfx_test

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: existing app
type User struct {
	ID    uuid.UUID `db:"id,pk,default"`
	Email string    `db:"email"`
}

var Users = fx.Module("users",
	rdsfx.Module, // pool, health monitor, transactions; the address is DATABASE_URL
	pgfx.ProvideSetup(pgfx.SetupSQL("create users", `create table if not exists users (
		id uuid primary key default gen_random_uuid(), email text not null)`)),
	repo.Provide[User, uuid.UUID]("users"), // provides *repo.Repository[User, uuid.UUID]
	fx.Invoke(func(lc fx.Lifecycle, users *repo.Repository[User, uuid.UUID], tx *txn.Manager) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			return tx.Do(ctx, func(ctx context.Context) error { // commits, or rolls back on error and panic
				return users.Create(ctx, &User{Email: "ada@example.com"})
			})
		}))
	}),
)

// docs: end

func Example() {
	var users *repo.Repository[User, uuid.UUID]
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		Users,
		fx.Populate(&users),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	ada, err := users.First(ctx, repo.Where("email = $1", "ada@example.com"))
	fmt.Println(ada.Email, ada.ID != uuid.Nil, err)
	fmt.Println(app.Stop(ctx))
	// Output:
	// ada@example.com true <nil>
	// <nil>
}

func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Stop(ctx) }()

	db, err := rdsfx.Open(pgfx.Config{URL: server.URL()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close(ctx) }()
	if err := db.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	var answer int
	err = db.Tx.Do(ctx, func(ctx context.Context) error {
		return db.Tx.QueryRow(ctx, "select 42").Scan(&answer)
	})
	fmt.Println(answer, err, db.Health.Status().State)
	// Output: 42 <nil> up
}

// A second database has the tag of its name. Settings that it lacks are those of the default database.
func ExampleModuleFor() {
	type databases struct {
		fx.In

		Main      *txn.Manager
		Reporting *txn.Manager `name:"reporting"`
	}
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		rdsfx.ModuleFor("reporting"), // REPORTING_DATABASE_URL, REPORTING_DATABASE_POOL_MAX_CONNS, …
		fx.Supply(fx.Annotate(pgfx.Config{ApplicationName: "reports", Role: pgfx.RoleAny}, fx.ResultTags(`name:"reporting"`))),
		fx.Invoke(func(lc fx.Lifecycle, in databases) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				var name string
				err := in.Reporting.QueryRow(ctx, "show application_name").Scan(&name)
				fmt.Println(name, in.Main.DB() != in.Reporting.DB())
				return err
			}))
		}),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	fmt.Println(app.Start(ctx))
	fmt.Println(app.Stop(ctx))
	// Output:
	// reports true
	// <nil>
	// <nil>
}

func ExampleModule_rds() {
	// docs: rds
	cfg := pgfx.Config{
		Host: "mydb.abc123.eu-west-1.rds.amazonaws.com",
		TLS:  pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, CAFile: "/etc/ssl/rds/global-bundle.pem"},
	}
	// docs: end
	fmt.Println(cfg)
	// Output:
	// {"host":"mydb.abc123.eu-west-1.rds.amazonaws.com","tls":{"mode":"verify-full","ca_file":"/etc/ssl/rds/global-bundle.pem"}}
}
