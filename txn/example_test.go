package txn_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

func Example() {
	if err := transfers(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// transfer 70: <nil>
	// transfer 70 again fails: true
	// ann 30 bob 70
}

func transfers(ctx context.Context) error {
	server, err := embedded.Shared(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop(ctx) }()
	db, err := pgfx.Open(pgfx.Config{URL: server.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}}) // one connection, because the table is temporary
	if err != nil {
		return err
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = db.Close(ctx) }()
	tx, err := txn.NewManager(db)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "create temp table example_accounts (id text primary key, balance int not null check (balance >= 0))"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "insert into example_accounts values ('ann', 100), ('bob', 0)"); err != nil {
		return err
	}

	// add works inside and outside a transaction.
	add := func(ctx context.Context, id string, amount int) error {
		_, err := tx.Exec(ctx, "update example_accounts set balance = balance + $2 where id = $1", id, amount)
		return err
	}
	transfer := func(from, to string, amount int) error {
		return tx.Do(ctx, func(ctx context.Context) error {
			return errors.Join(add(ctx, to, amount), add(ctx, from, -amount))
		})
	}

	fmt.Println("transfer 70:", transfer("ann", "bob", 70))
	fmt.Println("transfer 70 again fails:", transfer("ann", "bob", 70) != nil)
	var ann, bob int
	err = tx.QueryRow(ctx, "select sum(balance) filter (where id = 'ann'), sum(balance) filter (where id = 'bob') from example_accounts").
		Scan(&ann, &bob)
	fmt.Println("ann", ann, "bob", bob)
	return err
}
