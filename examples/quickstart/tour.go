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

// tour walks through what an application does with its database.
type tour struct {
	fx.In

	DB      *pgfx.DB
	Users   *repo.Repository[User, uuid.UUID]
	Tx      *txn.Manager
	Monitor *health.Monitor
}

// runTour starts the tour with the application and ends the application with the tour.
func runTour(lc fx.Lifecycle, shutdown fx.Shutdowner, t tour) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	began := time.Now()
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(done)
				code := 0
				if err := t.walk(ctx, began); err != nil {
					fmt.Printf("\n  stopped: %v\n", err)
					code = 1
				}
				_ = shutdown.Shutdown(fx.ExitCode(code)) // fails only when the application is stopping already
			}()
			return nil
		},
		OnStop: func(stop context.Context) error {
			cancel()
			<-done
			if _, err := t.DB.Pool().Exec(stop, "drop schema "+schema+" cascade"); err != nil {
				return err
			}
			fmt.Printf("\nSchema dropped. Now the pool closes, and the local server, if it was ours, goes. (%s in all)\n", short(time.Since(began)))
			return nil
		},
	})
}

// stepf prints what has happened and how long it took.
func stepf(name string, began time.Time, format string, args ...any) {
	fmt.Printf("  %-14s %-76s %8s\n", name, fmt.Sprintf(format, args...), short(time.Since(began)))
}

// short rounds a duration to what a person reads.
func short(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

func (t tour) walk(ctx context.Context, began time.Time) error {
	var version string
	if err := t.DB.Pool().QueryRow(ctx, "select split_part(version(), ' ', 2)").Scan(&version); err != nil {
		return err
	}
	fmt.Printf("rdsfx quickstart on PostgreSQL %s (%s)\n\n", version, t.DB.Target())
	stepf("started", began, "pool open, table %s.users created, schema checked", schema)
	for _, part := range []func(context.Context) error{t.rows, t.bulk, t.transfers} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	t.report()
	return nil
}

// rows shows what a repository does with single rows.
func (t tour) rows(ctx context.Context) error {
	began := time.Now()
	ada := &User{Email: "ada@example.com", Name: "Ada", Balance: 100}
	bob := &User{Email: "bob@example.com", Name: "Bob", Balance: 50}
	eve := &User{Email: "eve@example.com", Name: "Eve"}
	for _, user := range []*User{ada, bob, eve} {
		if err := t.Users.Create(ctx, user); err != nil {
			return err
		}
	}
	stepf("created", began, "3 users; the database made their ids, such as %.8s…", ada.ID)

	began = time.Now()
	read, err := t.Users.Get(ctx, ada.ID)
	if err != nil {
		return err
	}
	stepf("read", began, "%s <%s> by id, created %s", read.Name, read.Email, read.CreatedAt.Format(time.TimeOnly))

	began = time.Now()
	again := &User{Email: "bob@example.com", Name: "Robert", Balance: 50}
	outcome, err := t.Users.Upsert(ctx, again, repo.OnConflict("email"))
	if err != nil {
		return err
	}
	stepf("upserted", began, "%s, who has Bob's email: %s, and still id %.8s…", again.Name, outcome, again.ID)

	began = time.Now()
	richest, err := t.Users.Find(ctx, repo.Where("balance >= $1", 0), repo.Desc("balance"), repo.Limit(2))
	if err != nil {
		return err
	}
	names := make([]string, len(richest))
	for i := range richest {
		names[i] = richest[i].Name
	}
	stepf("listed", began, "the richest 2, by balance: %s", strings.Join(names, ", "))

	began = time.Now()
	ada.Name = "Ada Lovelace"
	if err := t.Users.Update(ctx, ada); err != nil {
		return err
	}
	stepf("updated", began, "%s, %s after her creation", ada.Name, short(ada.UpdatedAt.Sub(ada.CreatedAt)))

	began = time.Now()
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
	stepf("soft-deleted", began, "%s: %d users to be seen, %d in the table", eve.Name, visible, all)
	return nil
}

// many is how many rows are created at once.
const many = 1000

func (t tour) bulk(ctx context.Context) error {
	began := time.Now()
	users := make([]User, many)
	for i := range users {
		users[i] = User{Email: fmt.Sprintf("user%04d@example.com", i), Name: fmt.Sprintf("User %d", i), Balance: int64(i)}
	}
	if err := t.Users.CreateMany(ctx, users); err != nil {
		return err
	}
	took := time.Since(began)
	stepf("bulk-created", began, "%d users, %.0f a second, each with its id", len(users), many/took.Seconds())
	return nil
}

// errChangedMyMind is why the first transfer is rolled back.
var errChangedMyMind = errors.New("changed my mind")

// transfers moves money between two users: the first time in vain.
func (t tour) transfers(ctx context.Context) error {
	began := time.Now()
	err := t.transfer(ctx, 30, errChangedMyMind)
	if !errors.Is(err, errChangedMyMind) {
		return fmt.Errorf("the transfer should have failed: %w", err)
	}
	balances, err := t.balances(ctx)
	if err != nil {
		return err
	}
	stepf("rolled back", began, "a transfer of 30, on an error (%q): %s", errChangedMyMind, balances)

	began = time.Now()
	if err := t.transfer(ctx, 30, nil); err != nil {
		return err
	}
	if balances, err = t.balances(ctx); err != nil {
		return err
	}
	stepf("committed", began, "a transfer of 30: %s", balances)
	return nil
}

// transfer moves money from Ada to Bob. The repository joins the transaction that the context carries. What fails at the
// end takes everything back.
func (t tour) transfer(ctx context.Context, amount int64, fails error) error {
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
		return fails
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

// report prints what pool and monitor know.
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
