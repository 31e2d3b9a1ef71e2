package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := pgfx.Open(pgfx.Config{URL: server.URL()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close(ctx) }()
	monitor, err := health.NewMonitor(db)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := db.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if err := monitor.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = monitor.Close(ctx) }()

	status := monitor.Status()
	fmt.Println(status.State, monitor.IsHealthy(), status.Server.ReadOnly)
	// Output: up true false
}

// An observer is called for every transition, for example to update a metric or to send an alert.
func ExampleProvideObservers() {
	app := fx.New(
		fx.NopLogger,
		rdsfx.Module,
		fx.Supply(pgfx.Config{URL: server.URL()}),
		health.ProvideObservers(health.Observer{
			Name: "print",
			Observe: func(_ context.Context, t health.Transition) {
				fmt.Println(t.From, "→", t.To)
			},
		}),
		fx.Invoke(func(*health.Monitor) {}),
	)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Stop(ctx); err != nil {
		fmt.Println(err)
		return
	}
	// Output:
	// starting → up
	// up → stopped
}

// A check adds a component of the application to the endpoints.
func ExampleProvideChecks() {
	var monitor *health.Monitor
	app := fx.New(
		fx.NopLogger,
		rdsfx.Module,
		fx.Supply(pgfx.Config{URL: server.URL()}),
		health.ProvideChecks(health.Check{
			Name: "queue", Optional: true, // a failure is shown, but the instance stays ready
			Run: func(context.Context) error { return errors.New("12,000 jobs are waiting") },
		}),
		fx.Populate(&monitor),
	)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()

	response := httptest.NewRecorder()
	health.NewHandler(monitor).ServeHTTP(response, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", http.NoBody))
	fmt.Println(response.Code, response.Body)
	// Output: 200 {"status":"warn"}
}

// Mount the handler under any router. With Fx, DrainOnStop as the last option makes the instance not ready before anything is
// closed.
func ExampleNewHandler() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var mux *http.ServeMux
	app := fx.New(
		fx.NopLogger,
		rdsfx.Module,
		fx.Supply(pgfx.Config{URL: server.URL()}),
		fx.Provide(func(monitor *health.Monitor) *http.ServeMux {
			mux := http.NewServeMux()
			mux.Handle("/internal/", health.NewHandler(monitor))
			return mux
		}),
		fx.Populate(&mux),
		health.DrainOnStop(5*time.Millisecond), // use seconds in production
	)
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequestWithContext(ctx, http.MethodGet, "/internal/readyz", http.NoBody))
	fmt.Println(response.Code, response.Body)
	if err := app.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: 200 {"status":"pass"}
}
