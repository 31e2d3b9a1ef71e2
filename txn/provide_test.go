package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestProvideOptions_ApplyToTheNamedDatabase(t *testing.T) {
	t.Parallel()
	var m *txn.Manager
	url := fxtest.URL(t)
	app := uberfxtest.New(t, rdsfx.Module, fx.Supply(pgfx.Config{URL: url}), fx.Populate(&m), fx.NopLogger,
		txn.ProvideOptions(txn.WithDefaults(txn.Serializable()), txn.WithDefaults(txn.ReadOnly()).For("reporting")))
	app.RequireStart()
	var isolation, readOnly string
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.QueryRow(ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").
			Scan(&isolation, &readOnly)
	}))
	assert.Equal(t, "serializable", isolation)
	assert.Equal(t, "off", readOnly, "the option belongs to another database")
	require.Equal(t, 1, witnesses(t, m))
	app.RequireStop()
	other := managerOf(t, openDB(t, url))
	require.Eventually(t, func() bool { return witnesses(t, other) == 0 }, waitTimeout, time.Millisecond, "the stop closes the manager")
}

func TestProvideOptions_InvalidOptionFailsNew(t *testing.T) {
	t.Parallel()
	app := fx.New(rdsfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@127.0.0.1:1/app"}), fx.NopLogger,
		txn.ProvideOptions(txn.WithDefaults(txn.Isolation("chaos"))), fx.Invoke(func(*txn.Manager) {}))
	require.ErrorContains(t, app.Err(), `"chaos"`)
}

func TestManagerOption_ForAnotherDatabaseIsIgnored(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	m := managerOf(t, db, txn.WithDefaults(txn.ReadOnly()).For("reporting"), txn.WithDefaults(txn.Serializable()).For(db.Name()))
	var isolation, readOnly string
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		return m.QueryRow(ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").
			Scan(&isolation, &readOnly)
	}))
	assert.Equal(t, []string{"serializable", "off"}, []string{isolation, readOnly})
	assert.Contains(t, m.String(), "txn.Manager of ")
	assert.Equal(t, "reporting", txn.WithDefaults().For("reporting").Database())
}
