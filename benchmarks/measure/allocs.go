package measure

import (
	"context"
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// Allocations returns how many allocations a replayed call takes, to the last one: without the garbage collector, on one
// processor, and the least of several attempts, because what runs in the background only ever adds to it.
func (a *Arena) Allocations(ctx context.Context, op *contest.Operation, contender contest.Contender) (int, error) {
	seat, err := a.Seat(ctx, op, contender, Replay)
	if err != nil {
		return 0, err
	}
	defer seat.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	attempts, runs := 5, 200
	if op.Single {
		attempts, runs = 4, 2
	}
	least := -1.0
	for range attempts {
		n := testing.AllocsPerRun(runs, func() {
			seat.Session.Prepare()
			if failed := seat.Session.Call(context.Background(), 0); failed != nil {
				err = failed
			}
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", op.Slug, seat.Name, err)
		}
		if least < 0 || n < least {
			least = n
		}
	}
	return int(least), seat.Err()
}
