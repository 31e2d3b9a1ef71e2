package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestTheModuleProvidesAManager(t *testing.T) {
	t.Parallel()
	var m *txn.Manager
	app := fxtest.New(t, pgfx.Module, txn.Module, fx.Supply(newDatabase(t)), fx.Populate(&m), fx.NopLogger)
	app.RequireStart()
	defer app.RequireStop()
	assert.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "select 1")
		return err
	}))
}

func TestTheModuleValidates(t *testing.T) {
	t.Parallel()
	require.NoError(t, fx.ValidateApp(pgfx.Module, txn.Module, fx.NopLogger, fx.Invoke(func(*txn.Manager) {})))
}

func TestNewWorksWithoutFx(t *testing.T) {
	t.Parallel()
	result, err := txn.New(txn.Params{DB: newDB(t)})
	require.NoError(t, err)
	assert.NoError(t, result.Manager.Do(t.Context(), func(context.Context) error { return nil }))
}
