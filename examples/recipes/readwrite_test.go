package recipes_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/examples/recipes"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestCatalogue_ReadsItsWritesDespiteLag(t *testing.T) {
	t.Parallel()
	cluster := faults.NewCluster(t)
	_, err := fxtest.DB(t, fxtest.At(cluster.Primary().URL())).Pool().Exec(t.Context(),
		recipes.ProductsTable+`; insert into products values ('kb', 'Keyboard', 8900), ('ms', 'Mouse', 3900)`)
	require.NoError(t, err)
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	var catalogue *recipes.Catalogue
	fxtest.New(t, fxtest.At(cluster.Primary().URL()),
		fxtest.ForDatabase("readers", fxtest.At(cluster.Standby().URL()), fxtest.Config(pgfx.Config{Role: pgfx.RoleAny})),
		fxtest.Fx(recipes.CatalogueModule, fx.Populate(&catalogue)))

	cluster.Lag(true)
	cheaper, err := catalogue.SetPrice(t.Context(), "ms", 9900)
	require.NoError(t, err)
	assert.Equal(t, []recipes.Product{{"kb", "Keyboard", 8900}}, cheaper, "the writer has the new price")
	cheapest, err := catalogue.Cheapest(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, []recipes.Product{{"ms", "Mouse", 3900}}, cheapest, "the reader has the old price")

	cluster.Lag(false)
	require.NoError(t, cluster.AwaitReplay(t.Context()))
	cheapest, err = catalogue.Cheapest(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, []recipes.Product{{"kb", "Keyboard", 8900}}, cheapest)
}
