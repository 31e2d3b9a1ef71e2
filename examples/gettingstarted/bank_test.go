// docs: bank_test.go

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

func TestTransfer_IsAllOrNothing(t *testing.T) {
	t.Parallel()
	var bank *Bank
	fxtest.New(t, fxtest.Fx( // a fresh database for this test
		migrate.Module(migrations, migrate.WithDir("migrations")),
		bankModule,
		fx.Populate(&bank),
	))
	ada, err := bank.Open(t.Context(), "Ada", 100)
	require.NoError(t, err)
	bob, err := bank.Open(t.Context(), "Bob", 0)
	require.NoError(t, err)

	require.NoError(t, bank.Transfer(t.Context(), ada.ID, bob.ID, 70))
	require.ErrorIs(t, bank.Transfer(t.Context(), ada.ID, bob.ID, 70), ErrOverdrawn)

	ada, err = bank.Get(t.Context(), ada.ID)
	require.NoError(t, err)
	require.Equal(t, int64(30), ada.Cents)
}

// docs: end
