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
	server, err := measure.NewServer(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	operations := contest.Operations()
	for i := range operations {
		op := &operations[i]
		for _, mode := range []measure.Mode{measure.Replay, measure.Live} {
			for _, contender := range op.Contenders {
				b.Run("op="+op.Slug+"/mode="+string(mode)+"/with="+contender.Name, func(b *testing.B) {
					measureContender(b, server, op, mode, contender)
				})
			}
		}
	}
}

func measureContender(b *testing.B, server *measure.Server, op *contest.Operation, mode measure.Mode, contender contest.Contender) {
	b.Helper()
	ctx := b.Context()
	runner, err := server.Open(ctx, op, contender, mode)
	if err != nil {
		b.Fatal(err)
	}
	defer runner.Close()
	restore := func() {
		if err := runner.Restore(ctx); err != nil {
			b.Fatal(err)
		}
		runner.Session.Prepare()
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
		if err := runner.Session.Call(context.Background(), i); err != nil { // as in the command table
			b.Fatal(err)
		}
	}
	if err := runner.Err(); err != nil {
		b.Fatal(err)
	}
}
