package rdsfx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
)

// TestLibrary_WorksWithoutFx uses server, pool, setup, monitor, transactions, repository and schema check together.
func TestLibrary_WorksWithoutFx(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	server, err := embedded.Start(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop(context.WithoutCancel(ctx))) }()

	model, err := repo.ModelOf[User, uuid.UUID]("users")
	require.NoError(t, err)
	db, err := rdsfx.Open(pgfx.Config{URL: server.URL()}, rdsfx.WithPool(pgfx.WithSetup(usersTable())),
		rdsfx.WithModels(model), rdsfx.WithSchemaPolicy(rdsfx.SchemaFail))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(context.WithoutCancel(ctx))) }()
	require.NoError(t, db.Start(ctx))
	users, err := repo.New[User, uuid.UUID](db.Tx, "users")
	require.NoError(t, err)

	ada := &User{Email: "ada@example.com"}
	boom := errors.New("boom")
	require.ErrorIs(t, db.Tx.Do(ctx, func(ctx context.Context) error {
		require.NoError(t, users.Create(ctx, ada))
		return boom
	}), boom)
	exists, err := users.Exists(ctx, repo.Eq("email", ada.Email))
	require.NoError(t, err)
	assert.False(t, exists, "rolled back")

	require.NoError(t, db.Tx.Do(ctx, func(ctx context.Context) error { return users.Create(ctx, ada) }))
	got, err := users.Get(ctx, ada.ID)
	require.NoError(t, err)
	assert.Equal(t, ada, got)

	status, err := db.Health.ProbeNow(ctx)
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.True(t, db.DB.IsHealthy())
}
