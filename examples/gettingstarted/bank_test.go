// docs: bank_test.go

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
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

func TestServer_RespondsWithStatusOfError(t *testing.T) {
	t.Parallel()
	var handler http.Handler
	fxtest.New(t, fxtest.Logger(t), fxtest.Fx( // NewHandler needs a *zap.Logger
		migrate.Module(migrations, migrate.WithDir("migrations")),
		bankModule,
		fx.Provide(NewHandler),
		fx.Populate(&handler),
	))
	response := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/accounts/"+uuid.NewString(), http.NoBody)
	handler.ServeHTTP(response, request)
	require.Equal(t, http.StatusNotFound, response.Code)
}

// docs: end
