package recipes

import (
	"context"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: read write split

// CatalogueModule writes to one database and reads from another.
var CatalogueModule = fx.Options(
	rdsfx.Module,               // DATABASE_URL: the cluster endpoint
	rdsfx.ModuleFor("readers"), // READERS_DATABASE_URL: the reader endpoint
	repo.Provide[Product, string]("products"),
	repo.Provide[Product, string]("products", repo.WithDatabase("readers")), // with the tag `name:"readers"`
	fx.Provide(fx.Annotate(NewCatalogue, fx.ParamTags("", "", `name:"readers"`))),
)

// Catalogue is the store of the products.
type Catalogue struct {
	tx               *txn.Manager // of the writer
	products, copies *repo.Repository[Product, string]
}

// NewCatalogue is called by Fx.
func NewCatalogue(tx *txn.Manager, products, copies *repo.Repository[Product, string]) *Catalogue {
	return &Catalogue{tx, products, copies}
}

// Cheapest tolerates replication lag, so it reads from a reader.
func (c *Catalogue) Cheapest(ctx context.Context, n int) ([]Product, error) {
	return c.copies.Find(ctx, repo.Asc("cents"), repo.Limit(n))
}

// SetPrice changes a price and returns the products that are cheaper now. It reads its own write, so it reads from the writer.
func (c *Catalogue) SetPrice(ctx context.Context, sku string, cents int64) ([]Product, error) {
	return txn.DoValue(ctx, c.tx, func(ctx context.Context) ([]Product, error) {
		product, err := c.products.Patch(ctx, sku, []repo.Change{repo.Set("cents", cents)})
		if err != nil {
			return nil, err
		}
		return c.products.Find(ctx, repo.Lt("cents", product.Cents), repo.Asc("cents"))
	})
}

// docs: end
