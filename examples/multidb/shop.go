package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: shop

// stores are the values of all databases. A tag selects those of a named one.
type stores struct {
	fx.In

	Products *repo.Repository[Product, string]
	Monitor  *health.Monitor

	EUOrders  *repo.Repository[Order, int64] `name:"eu"`
	EUTx      *txn.Manager                   `name:"eu"`
	EUMonitor *health.Monitor                `name:"eu"`

	USOrders  *repo.Repository[Order, int64] `name:"us"`
	USTx      *txn.Manager                   `name:"us"`
	USMonitor *health.Monitor                `name:"us"`
}

// region is what the shop uses of a region's database.
type region struct {
	orders  *repo.Repository[Order, int64]
	tx      *txn.Manager
	monitor *health.Monitor
}

// Shop sells products of the shared catalogue in each region.
type Shop struct {
	products *repo.Repository[Product, string]
	monitor  *health.Monitor
	regions  map[string]region
}

// NewShop is called by Fx.
func NewShop(s stores) *Shop {
	return &Shop{products: s.Products, monitor: s.Monitor, regions: map[string]region{
		"eu": {s.EUOrders, s.EUTx, s.EUMonitor},
		"us": {s.USOrders, s.USTx, s.USMonitor},
	}}
}

// PlaceOrders creates one order for each product, all or none. If the database of another region is away, that changes nothing.
func (s *Shop) PlaceOrders(ctx context.Context, where string, quantity int64, skus ...string) ([]Order, error) {
	r, ok := s.regions[where]
	if !ok {
		return nil, fmt.Errorf("unknown region %q", where)
	}
	products, err := s.products.Find(ctx, repo.In("sku", skus...), repo.Asc("sku")) // in the shared database
	if err != nil {
		return nil, err
	}
	var orders []Order
	err = r.tx.Do(ctx, func(ctx context.Context) error { // in the region's database
		orders = nil
		for _, product := range products {
			order := Order{SKU: product.SKU, Quantity: quantity, Cents: quantity * product.Cents}
			if err := r.orders.Create(ctx, &order); err != nil {
				return err
			}
			orders = append(orders, order)
		}
		return nil
	})
	return orders, err
}

// docs: end

// Revenue returns the sum of all orders for each region. The error of one region does not hide the others.
func (s *Shop) Revenue(ctx context.Context) (map[string]int64, error) {
	revenue := make(map[string]int64)
	var errs []error
	for name, r := range s.regions {
		cents, err := repo.QueryOne[int64](ctx, r.tx, "select coalesce(sum(cents), 0)::bigint from orders")
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		revenue[name] = cents
	}
	return revenue, errors.Join(errs...)
}

// runTour fills the databases and prints what they hold, when the application has started.
func runTour(lc fx.Lifecycle, shutdown fx.Shutdowner, shop *Shop) {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		if err := shop.tour(ctx); err != nil {
			return err
		}
		return shutdown.Shutdown()
	}))
}

func (s *Shop) tour(ctx context.Context) error {
	if _, err := s.products.UpsertMany(ctx, []Product{{"kb", "Keyboard", 8900}, {"ms", "Mouse", 3900}}, repo.OnConflict("sku")); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.regions)) {
		orders, err := s.PlaceOrders(ctx, name, int64(len(name)), "kb", "ms")
		if err != nil {
			return err
		}
		for _, order := range orders {
			fmt.Printf("%s  order %d: %d × %s for %.2f\n", name, order.ID, order.Quantity, order.SKU, float64(order.Cents)/100)
		}
	}
	_, err := s.PlaceOrders(ctx, "eu", -1, "kb", "ms") // violates a check, so nothing is stored
	fmt.Println("eu ", err)
	revenue, err := s.Revenue(ctx)
	fmt.Println("revenue in cents:", revenue, err)
	fmt.Printf("shared %v · eu %v · us %v\n",
		s.monitor.Status().State, s.regions["eu"].monitor.Status().State, s.regions["us"].monitor.Status().State)
	return nil
}
