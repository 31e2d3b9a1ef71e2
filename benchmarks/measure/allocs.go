package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// minAttempts is the number of attempts even if the first already matches. A later attempt may show that the number has
// decreased.
const minAttempts = 3

// Allocations returns the exact number of allocations of a replayed call. It measures without the garbage collector on one
// processor, and takes the minimum of several attempts, because background work only adds allocations. It stops early when the
// minimum equals expected; 0 expects no particular number.
func (a *Arena) Allocations(ctx context.Context, op *contest.Operation, contender contest.Contender, expected int) (int, error) {
	seat, err := a.Seat(ctx, op, contender, Replay)
	if err != nil {
		return 0, err
	}
	defer seat.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	attempts, runs := 20, 200
	if op.Single { // a long call is disturbed in most attempts on a busy machine
		attempts, runs = 60, 1
	}
	lowest := -1.0
	for i := 0; i < attempts && (i < minAttempts || int(lowest) != expected); i++ {
		runtime.GC() //nolint:revive // the collector is off during the attempts
		n := testing.AllocsPerRun(runs, func() {
			seat.Session.Prepare()
			if callErr := seat.Session.Call(context.Background(), 0); callErr != nil {
				err = callErr
			}
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", op.Slug, seat.Name, err)
		}
		if lowest < 0 || n < lowest {
			lowest = n
		}
	}
	return int(lowest), seat.Err()
}
