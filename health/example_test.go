package health_test

import (
	"context"
	"fmt"
	"log"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func Example() {
	ctx := context.Background()
	db, err := pgfx.Open(pgfx.Config{URL: server.URL()})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	monitor, err := health.NewMonitor(db)
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := monitor.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer monitor.Stop(ctx)

	status := monitor.Status()
	fmt.Println(status.State, monitor.IsHealthy(), status.Server.ReadOnly)
	// Output: up true false
}

// An observer hears of every transition, for a metric, an alert or a circuit breaker of one's own.
func ExampleObserve() {
	app := fx.New(
		fx.NopLogger,
		pgfx.Module,
		health.Module,
		fx.Supply(pgfx.Config{URL: server.URL()}),
		health.Observe(health.Observer{
			Name: "print",
			Observe: func(_ context.Context, t health.Transition) {
				fmt.Println(t.From, "→", t.To)
			},
		}),
		fx.Invoke(func(*health.Monitor) {}),
	)
	if err := app.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := app.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// starting → up
	// up → stopped
}
