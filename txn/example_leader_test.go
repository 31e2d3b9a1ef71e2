package txn_test

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: singleton
// RunCleaner deletes old visits once a minute, in one instance of the application.
func RunCleaner(lc fx.Lifecycle, tx *txn.Manager) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lc.Append(fx.StartStopHook(
		func() {
			go func() {
				defer close(done)
				_ = tx.Lead(ctx, "cleaner", func(ctx context.Context, leader *txn.Leader) error {
					for {
						if err := clean(ctx, tx, leader); err != nil {
							return err
						}
						select {
						case <-time.After(time.Minute):
						case <-ctx.Done(): // the leadership was lost, or the application stops
							return nil
						}
					}
				})
			}()
		},
		func() { cancel(); <-done },
	))
}

func clean(ctx context.Context, tx *txn.Manager, leader *txn.Leader) error {
	return tx.Do(ctx, func(ctx context.Context) error {
		_, err := tx.Exec(ctx, "delete from visits where at < now() - interval '1 day'")
		return err
	}, txn.Fenced(leader)) // refused if another instance leads by now
}

// docs: end

func ExampleManager_Lead() {
	var tx *txn.Manager
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(pgfx.SetupSQL("create visits", `create table if not exists visits (at timestamptz not null);
			insert into visits values (now() - interval '2 days'), (now())`)),
		fx.Invoke(RunCleaner),
		fx.Populate(&tx),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	visits := 0
	for visits != 1 && ctx.Err() == nil {
		_ = tx.QueryRow(ctx, "select count(*) from visits").Scan(&visits)
	}
	fmt.Println(visits, "visit is left")
	fmt.Println(app.Stop(ctx))
	// Output:
	// 1 visit is left
	// <nil>
}
