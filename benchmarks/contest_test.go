package benchmarks_test

import (
	"context"
	"testing"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
)

// BenchmarkContest measures one contender after the other and reports in the format of go test and benchstat. The command table
// alternates between contenders, which is fairer.
func BenchmarkContest(b *testing.B) {
	arena, err := measure.NewArena(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(arena.Close)
	operations := contest.Operations()
	for i := range operations {
		op := &operations[i]
		for _, mode := range []measure.Mode{measure.Replay, measure.Live} {
			for _, contender := range op.Contenders {
				b.Run("op="+op.Slug+"/mode="+string(mode)+"/with="+contender.Name, func(b *testing.B) {
					compete(b, arena, op, mode, contender)
				})
			}
		}
	}
}

func compete(b *testing.B, arena *measure.Arena, op *contest.Operation, mode measure.Mode, contender contest.Contender) {
	b.Helper()
	ctx := b.Context()
	seat, err := arena.Seat(ctx, op, contender, mode)
	if err != nil {
		b.Fatal(err)
	}
	defer seat.Close()
	restore := func() {
		if err := seat.Restore(ctx); err != nil {
			b.Fatal(err)
		}
		seat.Session.Prepare()
	}
	restore()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if op.Single {
			b.StopTimer()
			restore()
			b.StartTimer()
		}
		i := n
		if mode == measure.Replay {
			i = 0
		}
		if err := seat.Session.Call(context.Background(), i); err != nil { // as in the command table
			b.Fatal(err)
		}
	}
	if err := seat.Err(); err != nil {
		b.Fatal(err)
	}
}
