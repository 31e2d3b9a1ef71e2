package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// tour demonstrates what an application does with its database.
type tour struct {
	fx.In

	DB      *pgfx.DB
	Users   *repo.Repository[User, uuid.UUID]
	Tx      *txn.Manager
	Monitor *health.Monitor
}

// runTour starts the tour when the application has started, and shuts the application down after the tour.
func runTour(lc fx.Lifecycle, shutdown fx.Shutdowner, t tour) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	start := time.Now()
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(done)
				code := 0
				if err := t.walk(ctx, start); err != nil {
					fmt.Printf("\n  stopped: %v\n", err)
					code = 1
				}
				_ = shutdown.Shutdown(fx.ExitCode(code)) // fails only if the application is already stopping
			}()
			return nil
		},
		OnStop: func(stop context.Context) error {
			cancel()
			<-done
			if _, err := t.DB.Pool().Exec(stop, "drop schema "+schema+" cascade"); err != nil {
				return err
			}
			fmt.Printf("\nSchema dropped. The pool is closed next, then the local server if there is one. (%s in total)\n", short(time.Since(start)))
			return nil
		},
	})
}

// stepf prints a step and how long it took.
func stepf(name string, start time.Time, format string, args ...any) {
	fmt.Printf("  %-14s %-76s %8s\n", name, fmt.Sprintf(format, args...), short(time.Since(start)))
}

// short rounds a duration for display.
func short(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

func (t tour) walk(ctx context.Context, start time.Time) error {
	var version string
	if err := t.DB.Pool().QueryRow(ctx, "select split_part(version(), ' ', 2)").Scan(&version); err != nil {
		return err
	}
	fmt.Printf("rdsfx quickstart on PostgreSQL %s (%s)\n\n", version, t.DB.Target())
	stepf("started", start, "pool open, table %s.users created, schema checked", schema)
	for _, part := range []func(context.Context) error{t.rows, t.bulk, t.transfers} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	t.report()
	return nil
}

// rows demonstrates operations on single rows.
func (t tour) rows(ctx context.Context) error {
	start := time.Now()
	ada := &User{Email: "ada@example.com", Name: "Ada", Balance: 100}
	bob := &User{Email: "bob@example.com", Name: "Bob", Balance: 50}
	eve := &User{Email: "eve@example.com", Name: "Eve"}
	for _, user := range []*User{ada, bob, eve} {
		if err := t.Users.Create(ctx, user); err != nil {
			return err
		}
	}
	stepf("created", start, "3 users with ids from the database, such as %.8s…", ada.ID)

	start = time.Now()
	read, err := t.Users.Get(ctx, ada.ID)
	if err != nil {
		return err
	}
	stepf("read", start, "%s <%s> by id, created %s", read.Name, read.Email, read.CreatedAt.Format(time.TimeOnly))

	start = time.Now()
	again := &User{Email: "bob@example.com", Name: "Robert", Balance: 50}
	result, err := t.Users.Upsert(ctx, again, repo.OnConflict("email"))
	if err != nil {
		return err
	}
	stepf("upserted", start, "%s, who has Bob's email: %s, id still %.8s…", again.Name, result, again.ID)

	start = time.Now()
	richest, err := t.Users.Find(ctx, repo.Where("balance >= $1", 0), repo.Desc("balance"), repo.Limit(2))
	if err != nil {
		return err
	}
	names := make([]string, len(richest))
	for i := range richest {
		names[i] = richest[i].Name
	}
	stepf("listed", start, "the richest 2, by balance: %s", strings.Join(names, ", "))

	start = time.Now()
	ada.Name = "Ada Lovelace"
	if err := t.Users.Update(ctx, ada); err != nil {
		return err
	}
	stepf("updated", start, "%s, %s after her creation", ada.Name, short(ada.UpdatedAt.Sub(ada.CreatedAt)))

	start = time.Now()
	if err := t.Users.Delete(ctx, eve.ID); err != nil {
		return err
	}
	visible, err := t.Users.Count(ctx)
	if err != nil {
		return err
	}
	all, err := t.Users.Count(ctx, repo.WithDeleted())
	if err != nil {
		return err
	}
	stepf("soft-deleted", start, "%s: %d users visible, %d in the table", eve.Name, visible, all)
	return nil
}

// bulkSize is the number of rows created by one call.
const bulkSize = 1000

func (t tour) bulk(ctx context.Context) error {
	start := time.Now()
	users := make([]User, bulkSize)
	for i := range users {
		users[i] = User{Email: fmt.Sprintf("user%04d@example.com", i), Name: fmt.Sprintf("User %d", i), Balance: int64(i)}
	}
	if err := t.Users.CreateMany(ctx, users); err != nil {
		return err
	}
	elapsed := time.Since(start)
	stepf("bulk-created", start, "%d users with their ids, %.0f per second", len(users), bulkSize/elapsed.Seconds())
	return nil
}

// errCancelled rolls the first transfer back.
var errCancelled = errors.New("transfer cancelled")

// transfers moves money between two users twice. The first transfer is rolled back.
func (t tour) transfers(ctx context.Context) error {
	start := time.Now()
	err := t.transfer(ctx, 30, errCancelled)
	if !errors.Is(err, errCancelled) {
		return fmt.Errorf("the transfer should have failed: %w", err)
	}
	balances, err := t.balances(ctx)
	if err != nil {
		return err
	}
	stepf("rolled back", start, "a transfer of 30, on an error (%q): %s", errCancelled, balances)

	start = time.Now()
	if err := t.transfer(ctx, 30, nil); err != nil {
		return err
	}
	if balances, err = t.balances(ctx); err != nil {
		return err
	}
	stepf("committed", start, "a transfer of 30: %s", balances)
	return nil
}

// transfer moves money from Ada to Bob in one transaction, which the repository joins through ctx. A non-nil result rolls it
// back and is returned.
func (t tour) transfer(ctx context.Context, amount int64, result error) error {
	return t.Tx.Do(ctx, func(ctx context.Context) error {
		ada, err := t.Users.First(ctx, repo.Eq("email", "ada@example.com"), repo.ForUpdate())
		if err != nil {
			return err
		}
		bob, err := t.Users.First(ctx, repo.Eq("email", "bob@example.com"), repo.ForUpdate())
		if err != nil {
			return err
		}
		ada.Balance -= amount
		bob.Balance += amount
		if err := t.Users.Update(ctx, ada); err != nil {
			return err
		}
		if err := t.Users.Update(ctx, bob); err != nil {
			return err
		}
		return result
	})
}

func (t tour) balances(ctx context.Context) (string, error) {
	users, err := t.Users.Find(ctx, repo.In("email", "ada@example.com", "bob@example.com"), repo.Asc("email"))
	if err != nil {
		return "", err
	}
	parts := make([]string, len(users))
	for i, user := range users {
		parts[i] = fmt.Sprintf("%s has %d", strings.Fields(user.Name)[0], user.Balance)
	}
	return strings.Join(parts, ", "), nil
}

// report prints the statistics of the pool and the state of the monitor.
func (t tour) report() {
	stats := t.DB.Stats()
	fmt.Printf("\n  pool           %d of %d connections open, %d in use, %d acquires\n",
		stats.Pool.Open, stats.Pool.Max, stats.Pool.InUse, stats.Pool.Acquired)
	fmt.Printf("  statements     %d, %d failed; average %s, p50 %s, p95 %s, p99 %s\n",
		stats.Statements.Count, stats.Statements.Errors, short(stats.Statements.Average),
		short(stats.Statements.P50), short(stats.Statements.P95), short(stats.Statements.P99))
	status := t.Monitor.Status()
	fmt.Printf("  health         %v since %s\n", status.State, status.Since.Format(time.TimeOnly))
}
