// docs: hello

// Hello stores a row: the program of README.md.
package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// User is a row of the table users.
type User struct {
	ID    uuid.UUID `db:"id,pk,default"`
	Email string    `db:"email"`
}

func main() {
	fx.New(
		fx.NopLogger,
		embedded.Module, // a local server; inactive if DATABASE_URL is set
		rdsfx.Module,    // pool, health monitor, transactions
		pgfx.ProvideSetup(pgfx.SetupSQL("create users", `create table if not exists users (
			id uuid primary key default gen_random_uuid(), email text not null)`)),
		repo.Provide[User, uuid.UUID]("users"), // provides *repo.Repository[User, uuid.UUID]
		fx.Invoke(hello),
	).Run()
}

func hello(lc fx.Lifecycle, users *repo.Repository[User, uuid.UUID], tx *txn.Manager, stop fx.Shutdowner) {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		ada := &User{Email: "ada@example.com"}
		err := tx.Do(ctx, func(ctx context.Context) error { // commits, or rolls back on error and panic
			return users.Create(ctx, ada)
		})
		if err != nil {
			return err
		}
		fmt.Println("stored", ada.Email, "as", ada.ID)
		return stop.Shutdown()
	}))
}

// docs: end
