package ormtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: river
// RiverTables is the setup step for River's tables. River's migrator does not lock, so the step does.
func RiverTables() pgfx.SetupStep {
	return pgfx.SetupStep{Name: "River's tables", Run: func(ctx context.Context, db *pgfx.DB) error {
		return migrate.Locked(ctx, db, "river", func(ctx context.Context) error {
			migrator, err := rivermigrate.New(riverpgxv5.New(db.Pool()), nil)
			if err != nil {
				return fmt.Errorf("river: %w", err)
			}
			_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
	}}
}

// docs: end

type greeting struct {
	Name string `json:"name"`
}

func (greeting) Kind() string { return "greeting" }

func TestRiver_EnqueuesInTransaction(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Pool(pgfx.WithSetup(RiverTables())))
	tx, err := txn.NewManager(db)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Close(context.WithoutCancel(t.Context()))) }()
	client, err := river.NewClient(riverpgxv5.New(db.Pool()), &river.Config{})
	require.NoError(t, err)
	enqueue := func(ctx context.Context) error {
		current, ok := tx.Tx(ctx)
		require.True(t, ok)
		_, err := client.InsertTx(ctx, current, greeting{Name: "Ada"}, nil)
		return err
	}
	require.ErrorIs(t, tx.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, enqueue(ctx))
		return assert.AnError
	}), assert.AnError)
	require.NoError(t, tx.Do(t.Context(), enqueue))
	var jobs int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from river_job").Scan(&jobs))
	assert.Equal(t, 1, jobs, "the job of the rolled back transaction is gone")
}
