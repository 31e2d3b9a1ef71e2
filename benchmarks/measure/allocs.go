package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// minAttempts is the minimal number of attempts. It detects that a number has become smaller than expected.
const minAttempts = 3

// Allocations returns the exact number of allocations of a replayed call. It disables the garbage collector, runs on one
// processor and returns the minimum of several attempts, because background work only adds allocations.
//
// It stops early when an attempt yields the expected number. With 0, it makes all attempts.
func (s *Server) Allocations(ctx context.Context, op *contest.Operation, contender contest.Contender, expected int) (int, error) {
	runner, err := s.Open(ctx, op, contender, Replay)
	if err != nil {
		return 0, err
	}
	defer runner.Close()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	attempts, runs := 20, 200
	if op.Single { // these take so long that most attempts are disturbed on a busy machine
		attempts, runs = 60, 1
	}
	least := -1.0
	for i := 0; i < attempts && (i < minAttempts || int(least) != expected); i++ {
		runtime.GC() //nolint:revive // the garbage collector is off during the attempts
		n := testing.AllocsPerRun(runs, func() {
			runner.Session.Prepare()
			if failed := runner.Session.Call(context.Background(), 0); failed != nil {
				err = failed
			}
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %s: %w", op.Slug, runner.Name, err)
		}
		if least < 0 || n < least {
			least = n
		}
	}
	return int(least), runner.Err()
}
