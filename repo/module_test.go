package repo_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// stringer is an interface that an application requests instead of a repository.
type stringer interface{ String() string }

func TestProvide_ProvidesRepositoryAndModel(t *testing.T) {
	t.Parallel()
	m := newManager(t, usersDDL)
	var got struct {
		fx.In

		Users  *repo.Repository[User, uuid.UUID]
		Others *repo.Repository[User, uuid.UUID] `name:"others"`
		Own    stringer
		Models []repo.Model `group:"repo.models"`
	}
	app := fx.New(fx.NopLogger, fx.Supply(m),
		repo.Provide[User, uuid.UUID]("users"), repo.Provide[User, uuid.UUID]("others", repo.WithName("others")),
		repo.Provide[Plain, int64]("plain", repo.WithDatabase("reporting")),
		fx.Provide(func(r *repo.Repository[User, uuid.UUID]) stringer { return r }),
		fx.Populate(&got))
	require.NoError(t, app.Err())
	require.NoError(t, got.Users.Create(t.Context(), &User{Email: "ada"}))
	assert.Equal(t, "others", got.Others.Model().Table())
	assert.Equal(t, got.Users.String(), got.Own.String())
	tables := map[string]string{}
	for _, model := range got.Models {
		tables[model.Table()] = model.Database()
	}
	assert.Equal(t, map[string]string{"users": "", "others": "", "plain": "reporting"}, tables, "models of unrequested repositories, too")
}

func TestProvide_NamedDatabase(t *testing.T) {
	t.Parallel()
	reporting := func(m *txn.Manager, want string) error {
		return fx.New(fx.NopLogger, fx.Supply(fx.Annotate(m, fx.ResultTags(`name:"reporting"`))),
			repo.Provide[User, uuid.UUID]("users", repo.WithDatabase("reporting")),
			fx.Invoke(fx.Annotate(func(*repo.Repository[User, uuid.UUID]) {}, fx.ParamTags(`name:"`+want+`"`)))).Err()
	}
	require.ErrorContains(t, reporting(newManager(t), "reporting"), `WithDatabase("reporting") differs from the transaction manager's database ""`)
	require.ErrorContains(t, reporting(newManager(t), "other"), "missing")
}

func TestProvide_InvalidModelFailsTheApplication(t *testing.T) {
	t.Parallel()
	err := fx.New(fx.NopLogger, repo.Provide[Node, int]("nodes")).Err()
	require.ErrorContains(t, err, "repo: type repo_test.Node: field Parent")
}

func TestRepository_KeepsUnavailableErrors(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	m.DB().Internals().Gate().Close(errors.New("database is unavailable"))
	_, err := users.Find(t.Context())
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	assert.Regexp(t, "^pgfx: ", err.Error(), "there is one prefix")
	require.ErrorIs(t, users.Create(t.Context(), &User{}), pgfx.ErrUnavailable)
	require.ErrorIs(t, users.CreateMany(t.Context(), []User{{}}), pgfx.ErrUnavailable)
	require.ErrorIs(t, users.Delete(t.Context(), uuid.New()), pgfx.ErrUnavailable)
	require.ErrorIs(t, second(repo.CheckSchema(t.Context(), m, users.Model())), pgfx.ErrUnavailable)
	m.DB().Internals().Gate().Open()
}
