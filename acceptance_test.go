package rdsfx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// TestTheWholeLibraryWorksWithoutFx puts the parts together by hand: server, pool, setup, monitor, transactions,
// repository and schema check.
func TestTheWholeLibraryWorksWithoutFx(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	server, err := embedded.Start(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop(context.WithoutCancel(ctx))) }()

	db, err := pgfx.Open(pgfx.Config{URL: server.URL()}, pgfx.WithSetup(pgfx.SetupStep{
		Name: "create table",
		Run: func(ctx context.Context, db *pgfx.DB) error {
			_, err := db.Pool().Exec(ctx, "create table users (id uuid primary key default gen_random_uuid(), email text not null unique)")
			return err
		},
	}))
	require.NoError(t, err)
	require.NoError(t, db.Start(ctx))
	defer func() { require.NoError(t, db.Close(context.WithoutCancel(ctx))) }()

	monitor, err := health.NewMonitor(db)
	require.NoError(t, err)
	require.NoError(t, monitor.Start(ctx))
	defer func() { require.NoError(t, monitor.Stop(context.WithoutCancel(ctx))) }()

	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Close(context.WithoutCancel(ctx))) }()
	users, err := repo.New[User, uuid.UUID](tx, "users")
	require.NoError(t, err)
	findings, err := repo.CheckSchema(ctx, tx, users.Model())
	require.NoError(t, err)
	assert.Empty(t, findings)

	ada := &User{Email: "ada@example.com"}
	boom := errors.New("boom")
	require.ErrorIs(t, tx.Do(ctx, func(ctx context.Context) error {
		require.NoError(t, users.Create(ctx, ada))
		return boom
	}), boom)
	exists, err := users.Exists(ctx, repo.Eq("email", ada.Email))
	require.NoError(t, err)
	assert.False(t, exists, "rolled back")

	require.NoError(t, tx.Do(ctx, func(ctx context.Context) error { return users.Create(ctx, ada) }))
	got, err := users.Get(ctx, ada.ID)
	require.NoError(t, err)
	assert.Equal(t, ada, got)

	status, err := monitor.ProbeNow(ctx)
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.True(t, db.IsHealthy())
}
