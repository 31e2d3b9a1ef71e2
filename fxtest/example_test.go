package fxtest_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo"
)

// Examples get no *testing.T, so this one is only compiled. The package's tests run the same code.
func Example() { //nolint:testableexamples // see above
	_ = func(t *testing.T) { // func TestUsers_EmailIsUnique(t *testing.T)
		t.Parallel()
		var users *repo.Repository[User, uuid.UUID]
		fxtest.New(t,
			fxtest.SQL("create table users (id uuid primary key default gen_random_uuid(), email text not null unique)"),
			fxtest.Fx(
				repo.Provide[User, uuid.UUID]("users"), // or a module of your application
				fx.Populate(&users),
			),
		)
		require.NoError(t, users.Create(t.Context(), &User{Email: "ada@example.com"}))
		require.Error(t, users.Create(t.Context(), &User{Email: "ada@example.com"}))
	}
}
