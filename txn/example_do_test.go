package txn_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// exampleManager starts a server with the table example_visits and returns a manager. With Fx, rdsfx.Module provides it.
func exampleManager(ctx context.Context) (tx *txn.Manager, stop func()) {
	server, err := embedded.Start(ctx)
	if err != nil {
		panic(err)
	}
	db, err := pgfx.Open(pgfx.Config{URL: server.URL()})
	if err != nil {
		panic(err)
	}
	if err = db.Start(ctx); err != nil {
		panic(err)
	}
	if tx, err = txn.NewManager(db); err != nil {
		panic(err)
	}
	if _, err = tx.Exec(ctx, "create table example_visits (page text primary key)"); err != nil {
		panic(err)
	}
	return tx, func() { _, _, _ = tx.Close(ctx), db.Close(ctx), server.Stop(ctx) }
}

func ExampleManager_Do() {
	ctx := context.Background()
	tx, stop := exampleManager(ctx)
	defer stop()

	// save joins the transaction of its ctx, if there is one.
	save := func(ctx context.Context, page string) error {
		_, err := tx.Exec(ctx, "insert into example_visits values ($1)", page)
		return err
	}
	err := tx.Do(ctx, func(ctx context.Context) error {
		if err := save(ctx, "/a"); err != nil {
			return err
		}
		return errors.New("something else failed") // rolls back, as a panic does
	})
	fmt.Println(err)
	fmt.Println(tx.Do(ctx, func(ctx context.Context) error { return save(ctx, "/b") }))

	var pages int
	err = tx.QueryRow(ctx, "select count(*) from example_visits").Scan(&pages)
	fmt.Println(pages, err)
	// Output:
	// something else failed
	// <nil>
	// 1 <nil>
}

func ExampleRetry() {
	ctx := context.Background()
	tx, stop := exampleManager(ctx)
	defer stop()

	attempts := 0
	err := tx.Do(ctx, func(ctx context.Context) error {
		if attempts++; attempts == 1 { // the server reports a conflict with a concurrent transaction
			_, err := tx.Exec(ctx, "do $$ begin raise exception using errcode = 'serialization_failure'; end $$")
			return err
		}
		return txn.AfterCommit(ctx, func(context.Context) { fmt.Println("committed") }) // once, not for failed attempts
	}, txn.Serializable(), txn.Retry(pgfx.RetryPolicy{}))
	fmt.Println(attempts, "attempts:", err)
	// Output:
	// committed
	// 2 attempts: <nil>
}
