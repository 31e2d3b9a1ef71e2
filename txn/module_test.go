package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestTheModuleProvidesAManagerAndClosesIt(t *testing.T) {
	t.Parallel()
	var m *txn.Manager
	url := fxtest.URL(t)
	app := uberfxtest.New(t, pgfx.Module, txn.Module, fx.Supply(pgfx.Config{URL: url}), fx.Populate(&m), fx.NopLogger,
		txn.ProvideOptions(txn.WithDefaults(txn.Serializable()), txn.WithDefaults(txn.ReadOnly()).For("reporting")))
	app.RequireStart()
	var isolation, readOnly string
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.QueryRow(ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").
			Scan(&isolation, &readOnly)
	}))
	assert.Equal(t, "serializable", isolation)
	assert.Equal(t, "off", readOnly, "that option is another database's")
	require.Equal(t, 1, witnesses(t, m))
	app.RequireStop()
	other := managerOf(t, openDB(t, url))
	require.Eventually(t, func() bool { return witnesses(t, other) == 0 }, patience, time.Millisecond)
}

func TestTheModuleValidates(t *testing.T) {
	t.Parallel()
	require.NoError(t, fx.ValidateApp(pgfx.Module, txn.Module, fx.NopLogger, fx.Invoke(func(*txn.Manager) {})))
}

func TestAnOptionThatIsWrongFailsTheApplication(t *testing.T) {
	t.Parallel()
	app := fx.New(txn.Module, fx.Supply(newDB(t)), fx.NopLogger,
		txn.ProvideOptions(txn.WithDefaults(txn.Isolation("chaos"))), fx.Invoke(func(*txn.Manager) {}))
	require.ErrorContains(t, app.Err(), `"chaos"`)
}

func TestNewWorksWithoutFx(t *testing.T) {
	t.Parallel()
	result, err := txn.New(txn.Params{DB: newDB(t)})
	require.NoError(t, err)
	require.NoError(t, result.Manager.Do(t.Context(), func(context.Context) error { return nil }))
	assert.Contains(t, result.Manager.String(), "txn.Manager of ")
	require.NoError(t, result.Manager.Close(t.Context()))
}
