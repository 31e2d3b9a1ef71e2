package recipes_test

import (
	"testing"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/examples/recipes"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// newProducts returns the repository of an empty table.
func newProducts(t *testing.T) (products *repo.Repository[recipes.Product, string]) {
	t.Helper()
	fxtest.New(t, fxtest.SQL(recipes.ProductsTable), fxtest.Fx(repo.Provide[recipes.Product, string]("products"), fx.Populate(&products)))
	return products
}
