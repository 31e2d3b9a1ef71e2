package measure

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// Options configure the length of a measurement.
type Options struct {
	// Rounds is the number of turns of each contender.
	Rounds int
	// Block is the approximate time of a turn. Operations on thousands of rows are called once per turn.
	Block time.Duration
}

// Spread holds the quartiles over the rounds.
type Spread struct{ Low, Median, High float64 }

// Result is the result of one contender for one operation.
type Result struct {
	Operation *contest.Operation
	Mode      Mode
	Contender string
	// Calls is the number of calls in all rounds.
	Calls int
	// Time is the time per call in nanoseconds.
	Time Spread
	// Ratio is Time divided by that of the first contender in the same round.
	Ratio Spread
	// More is Time minus that of the first contender, in nanoseconds.
	More Spread
	// CPU is the ratio of the client's processor time. Zero means unknown.
	CPU float64
	// Bytes and Allocs are allocations per call.
	Bytes, Allocs float64
}

// turn holds the measurements of one contender in one round, per call.
type turn struct{ time, cpu, bytes, allocs float64 }

// Compete measures the contenders of an operation and returns their results in the same order.
func (a *Arena) Compete(ctx context.Context, op *contest.Operation, mode Mode, opts Options) ([]Result, error) {
	seats := make([]*Seat, 0, len(op.Contenders))
	defer func() {
		for _, seat := range seats {
			seat.Close()
		}
	}()
	for _, contender := range op.Contenders {
		seat, err := a.Seat(ctx, op, contender, mode)
		if err != nil {
			return nil, err
		}
		seats = append(seats, seat)
	}
	calls := 1
	if !op.Single {
		first, err := seats[0].turn(ctx, 20)
		if err != nil {
			return nil, err
		}
		calls = max(1, int(float64(opts.Block)/first.time))
	}
	turns := make([][]turn, len(seats))
	order := make([]int, len(seats))
	for i := range order {
		order[i] = i
	}
	for range opts.Rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			t, err := seats[i].turn(ctx, calls)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", op.Slug, seats[i].Name, err)
			}
			turns[i] = append(turns[i], t)
		}
	}
	results := make([]Result, len(seats))
	for i, seat := range seats {
		if err := seat.Err(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", op.Slug, seat.Name, err)
		}
		results[i] = summarise(turns[i], turns[0])
		results[i].Operation, results[i].Mode, results[i].Contender, results[i].Calls = op, mode, seat.Name, calls*opts.Rounds
	}
	return results, nil
}

// turn measures some calls after an unmeasured one, which warms caches and validates connections.
func (s *Seat) turn(ctx context.Context, calls int) (turn, error) {
	if err := ctx.Err(); err != nil {
		return turn{}, err
	}
	call := func(i int) error {
		if s.mode == Replay {
			i = 0
		}
		return s.Session.Call(context.Background(), i) // a cancellable ctx has a different cost for each driver
	}
	prepare := func() error {
		err := s.Restore(ctx)
		s.Session.Prepare()
		return err
	}
	if err := prepare(); err != nil {
		return turn{}, err
	}
	if err := call(0); err != nil {
		return turn{}, err
	}
	if err := prepare(); err != nil {
		return turn{}, err
	}
	runtime.GC() //nolint:revive // contenders do not pay for the garbage of others
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := cpuTime(), time.Now()
	for i := range calls {
		if err := call(i); err != nil {
			return turn{}, err
		}
	}
	took, used := time.Since(began), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	n := float64(calls)
	return turn{
		time: float64(took) / n, cpu: float64(used) / n,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / n,
		allocs: float64(after.Mallocs-before.Mallocs) / n,
	}, nil
}

func summarise(turns, first []turn) Result {
	each := func(value func(t, first turn) float64) Spread {
		values := make([]float64, len(turns))
		for i := range turns {
			values[i] = value(turns[i], first[i])
		}
		return spreadOf(values)
	}
	r := Result{
		Time:   each(func(t, _ turn) float64 { return t.time }),
		Ratio:  each(func(t, first turn) float64 { return t.time / first.time }),
		More:   each(func(t, first turn) float64 { return t.time - first.time }),
		Bytes:  each(func(t, _ turn) float64 { return t.bytes }).Median,
		Allocs: each(func(t, _ turn) float64 { return t.allocs }).Median,
	}
	// The clock of processor time is coarse, so use sums.
	var used, anchor float64
	for i := range turns {
		used, anchor = used+turns[i].cpu, anchor+first[i].cpu
	}
	if anchor > 0 {
		r.CPU = used / anchor
	}
	return r
}

// spreadOf returns the quartiles of the values, which it sorts.
func spreadOf(values []float64) Spread {
	slices.Sort(values)
	at := func(q float64) float64 {
		position := q * float64(len(values)-1)
		i := int(position)
		if i+1 >= len(values) {
			return values[i]
		}
		return values[i] + (position-float64(i))*(values[i+1]-values[i])
	}
	return Spread{at(0.25), at(0.5), at(0.75)}
}
