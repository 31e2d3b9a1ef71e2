package rdsfx_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	fxapp "go.uber.org/fx/fxtest"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestExtension_IsAttachedToEveryDatabaseUntilItIsClosed(t *testing.T) {
	url := fxtest.URL(t)
	t.Setenv("REPORTING_DATABASE_URL", url)
	attached, detached := map[string]*rdsfx.Database{}, map[string]bool{}
	extension := rdsfx.Extension{Name: "recorder", Attach: func(d *rdsfx.Database) (func(), error) {
		assert.False(t, d.DB.IsInitialized(), "before the start")
		attached[d.DB.Name()] = d
		return func() {
			require.ErrorIs(t, d.DB.Internals().Gate().Err(), pgfx.ErrClosed)
			detached[d.DB.Name()] = true
		}, nil
	}}
	endless := rdsfx.Extension{Name: "without end", Attach: func(*rdsfx.Database) (func(), error) {
		return nil, nil //nolint:nilnil // nothing has to be detached
	}}
	type both struct {
		fx.In

		DB        *pgfx.DB
		Reporting *pgfx.DB `name:"reporting"`
	}
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"), rdsfx.ModuleFor("unused"), fx.Supply(pgfx.Config{URL: url}),
		rdsfx.ProvideExtensions(extension, endless),
		fx.Invoke(func(b both) {
			assert.Same(t, b.DB, attached[""].DB)
			assert.Same(t, b.Reporting, attached["reporting"].DB)
		}))
	assert.Len(t, attached, 2, "nothing requests the third database")
	app.RequireStart()
	assert.Empty(t, detached)
	app.RequireStop()
	assert.Equal(t, map[string]bool{"": true, "reporting": true}, detached)
}

func TestExtension_ErrorFailsNewAndDetachesTheOthers(t *testing.T) {
	t.Parallel()
	attached := 0
	works := rdsfx.Extension{Name: "works", Attach: func(*rdsfx.Database) (func(), error) {
		attached++
		return func() { attached-- }, nil
	}}
	fails := rdsfx.Extension{Name: "broken", Attach: func(*rdsfx.Database) (func(), error) { return nil, assert.AnError }}
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"}),
		rdsfx.ProvideExtensions(works, fails), fx.Invoke(func(*pgfx.DB) {}))
	require.ErrorIs(t, app.Err(), assert.AnError)
	require.ErrorContains(t, app.Err(), `rdsfx: extension "broken"`)
	assert.Zero(t, attached)
}
