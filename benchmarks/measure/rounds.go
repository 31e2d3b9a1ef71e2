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

// Options determine how long to measure.
type Options struct {
	// Rounds is the number of turns of each contender.
	Rounds int
	// Block is the approximate duration of a turn. Operations on thousands of rows are called once per turn.
	Block time.Duration
}

// Spread holds the quartiles of a value over all rounds.
type Spread struct{ Low, Median, High float64 }

// Result is the measurement of one contender at one operation.
type Result struct {
	Operation *contest.Operation
	Mode      Mode
	Contender string
	// Calls is the total number of calls in all rounds.
	Calls int
	// Time is in nanoseconds per call. Ratio is its ratio to the first contender's time in the same round.
	Time, Ratio Spread
	// CPU is the ratio of the client's processor time, or zero if it is not available.
	CPU float64
	// Bytes and Allocs are the allocated memory and the allocations per call.
	Bytes, Allocs float64
}

// turn is the measurement of one contender in one round, per call.
type turn struct{ time, cpu, bytes, allocs float64 }

// Measure runs the contenders of an operation by turns and returns a result for each, in their order.
func (s *Server) Measure(ctx context.Context, op *contest.Operation, mode Mode, opts Options) ([]Result, error) {
	runners := make([]*Runner, 0, len(op.Contenders))
	defer func() {
		for _, runner := range runners {
			runner.Close()
		}
	}()
	for _, contender := range op.Contenders {
		runner, err := s.Open(ctx, op, contender, mode)
		if err != nil {
			return nil, err
		}
		runners = append(runners, runner)
	}
	calls := 1
	if !op.Single {
		first, err := runners[0].turn(ctx, 20)
		if err != nil {
			return nil, err
		}
		calls = max(1, int(float64(opts.Block)/first.time))
	}
	turns := make([][]turn, len(runners))
	order := make([]int, len(runners))
	for i := range order {
		order[i] = i
	}
	for range opts.Rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			t, err := runners[i].turn(ctx, calls)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", op.Slug, runners[i].Name, err)
			}
			turns[i] = append(turns[i], t)
		}
	}
	results := make([]Result, len(runners))
	for i, runner := range runners {
		if err := runner.Err(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", op.Slug, runner.Name, err)
		}
		results[i] = summarize(turns[i], turns[0])
		results[i].Operation, results[i].Mode, results[i].Contender, results[i].Calls = op, mode, runner.Name, calls*opts.Rounds
	}
	return results, nil
}

// turn measures a block of calls. It makes one call before it, to warm up caches and connections.
func (r *Runner) turn(ctx context.Context, calls int) (turn, error) {
	if err := ctx.Err(); err != nil {
		return turn{}, err
	}
	call := func(i int) error {
		if r.mode == Replay {
			i = 0
		}
		return r.Session.Call(context.Background(), i) // drivers differ in the cost of a ctx that can end
	}
	prepare := func() error {
		err := r.Restore(ctx)
		r.Session.Prepare()
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
	runtime.GC() //nolint:revive // each contender starts without garbage of another
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	for i := range calls {
		if err := call(i); err != nil {
			return turn{}, err
		}
	}
	elapsed, used := time.Since(start), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	n := float64(calls)
	return turn{
		time: float64(elapsed) / n, cpu: float64(used) / n,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / n,
		allocs: float64(after.Mallocs-before.Mallocs) / n,
	}, nil
}

func summarize(turns, first []turn) Result {
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
		Bytes:  each(func(t, _ turn) float64 { return t.bytes }).Median,
		Allocs: each(func(t, _ turn) float64 { return t.allocs }).Median,
	}
	// The clock of the processor time is too coarse for single turns.
	var used, base float64
	for i := range turns {
		used, base = used+turns[i].cpu, base+first[i].cpu
	}
	if base > 0 {
		r.CPU = used / base
	}
	return r
}

// spreadOf sorts the values and returns their quartiles.
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
