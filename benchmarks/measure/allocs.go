package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// leastAttempts are made in any case, so that a number that has become smaller isn't taken for the expected one.
const leastAttempts = 3

// Allocations returns how many allocations a replayed call takes, to the last one: without the garbage collector, on one
// processor, and the least of several attempts, because what runs in the background only ever adds to it. There are as many of
// them as the machine's other work calls for: they end when the number is the expected one; 0 expects nothing.
func (a *Arena) Allocations(ctx context.Context, op *contest.Operation, contender contest.Contender, expected int) (int, error) {
	seat, err := a.Seat(ctx, op, contender, Replay)
	if err != nil {
		return 0, err
	}
	defer seat.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	attempts, runs := 20, 200
	if op.Single { // long enough to be disturbed nearly always where others are at work, too
		attempts, runs = 60, 1
	}
	least := -1.0
	for i := 0; i < attempts && (i < leastAttempts || int(least) != expected); i++ {
		runtime.GC() //nolint:revive // nobody else collects what the attempts leave
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
