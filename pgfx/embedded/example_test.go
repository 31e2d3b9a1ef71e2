package embedded_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// Start a server, use it and stop it.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	server, err := embedded.Start(ctx, embedded.Setting("max_connections", "20"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Stop(ctx) }()

	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()

	var connections string
	if err := conn.QueryRow(ctx, "SHOW max_connections").Scan(&connections); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("max_connections:", connections)
	// Output: max_connections: 20
}

// In an Fx application, the server starts and stops with the application. This example connects with plain pgx; rdsfx.Module
// would open a pool.
func ExampleModule() {
	app := fx.New(
		fx.NopLogger,
		embedded.Module,
		embedded.ProvideOptions(embedded.Setting("timezone", "Europe/Paris")),
		fx.Invoke(func(lc fx.Lifecycle, endpoint pgfx.Endpoint) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				conn, err := pgx.Connect(ctx, endpoint.URL)
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close(ctx) }()
				var zone string
				err = conn.QueryRow(ctx, "SHOW timezone").Scan(&zone)
				fmt.Println(zone)
				return err
			}))
		}),
	)
	if err := app.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: Europe/Paris
}
