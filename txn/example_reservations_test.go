package txn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: reservations
const bookingsTable = `create extension if not exists btree_gist; -- for room with =
	create table if not exists bookings (
		id uuid primary key default gen_random_uuid(), room text not null, starts_at timestamptz not null, ends_at timestamptz not null,
		constraint bookings_overlap exclude using gist (room with =, tstzrange(starts_at, ends_at) with &&))`

// Booking is a row of the table bookings.
type Booking struct {
	ID       uuid.UUID `db:"id,pk,default"`
	Room     string    `db:"room"`
	StartsAt time.Time `db:"starts_at"`
	EndsAt   time.Time `db:"ends_at"`
}

// ErrTaken is returned if one of the rooms is taken at that time.
var ErrTaken = errors.New("a room is taken at that time")

var bookingModule = repo.Provide[Booking, uuid.UUID]("bookings", repo.MapConstraint("bookings_overlap", ErrTaken))

// Book books all rooms or none.
func Book(
	ctx context.Context, tx *txn.Manager, bookings *repo.Repository[Booking, uuid.UUID], from, until time.Time, rooms ...string,
) ([]Booking, error) {
	rooms = slices.Compact(slices.Sorted(slices.Values(rooms))) // every caller locks in this order
	return txn.DoValue(ctx, tx, func(ctx context.Context) ([]Booking, error) {
		var rows []Booking // inside the closure, so a retry begins with new rows
		for _, name := range rooms {
			if err := txn.AdvisoryLock(ctx, "room "+name); err != nil { // until the transaction ends
				return nil, err
			}
			rows = append(rows, Booking{Room: name, StartsAt: from, EndsAt: until})
		}
		return rows, bookings.CreateMany(ctx, rows)
	}, txn.Retry(pgfx.RetryPolicy{}), txn.Timeout(5*time.Second))
}

// bookingStatus returns the HTTP status of a request to book.
func bookingStatus(err error) int {
	switch {
	case err == nil:
		return http.StatusCreated
	case errors.Is(err, ErrTaken):
		return http.StatusConflict
	}
	return txn.ErrorStatus(err)
}

// docs: end

func ExampleAdvisoryLock_reservations() {
	var (
		tx       *txn.Manager
		bookings *repo.Repository[Booking, uuid.UUID]
	)
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(pgfx.SetupSQL("create bookings", bookingsTable)),
		bookingModule,
		fx.Populate(&tx, &bookings),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()

	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	const clients = 8
	statuses := make(chan int)
	for i := range clients { // all want both rooms, half of them in the opposite order
		rooms := []string{"blue", "red"}
		if i%2 == 0 {
			slices.Reverse(rooms)
		}
		go func() {
			_, err := Book(ctx, tx, bookings, noon, noon.Add(time.Hour), rooms...)
			statuses <- bookingStatus(err)
		}()
	}
	count := map[int]int{}
	for range clients {
		count[<-statuses]++
	}
	fmt.Println(count[http.StatusCreated], "booked,", count[http.StatusConflict], "refused")

	free := true
	err := tx.Do(ctx, func(ctx context.Context) error {
		if _, err := Book(ctx, tx, bookings, noon.Add(time.Hour), noon.Add(2*time.Hour), "blue"); err != nil {
			return err
		}
		return tx.Do(ctx, func(ctx context.Context) (err error) { // another client, before the first has committed
			free, err = txn.TryAdvisoryLock(ctx, "room blue")
			return err
		}, txn.RequiresNew())
	}, txn.Timeout(5*time.Second))
	fmt.Println("booked:", bookingStatus(err), "room free for another transaction:", free)
	// Output:
	// 1 booked, 7 refused
	// booked: 201 room free for another transaction: false
}
