package pgfx_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx) // a local PostgreSQL; your own address goes into URL
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Stop(ctx) }()

	db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Pool: pgfx.PoolConfig{MaxConns: 4}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := db.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close(ctx) }()

	var sum int
	if err := db.Pool().QueryRow(ctx, "select 40 + 2").Scan(&sum); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sum, db.IsHealthy(), db.Stats().Pool.Max)
	// Output: 42 true 4
}
