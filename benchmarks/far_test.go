package benchmarks_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// farLatency is the latency per direction, as between two availability zones of a cloud.
const farLatency = 250 * time.Microsecond

// BenchmarkFar measures the contenders of a bulk update across a network, which a proxy simulates by a delay in each direction.
// It also measures a bare round trip, because timers are coarse.
func BenchmarkFar(b *testing.B) {
	ctx := b.Context()
	url := fxtest.URL(b, fxtest.SQL(contest.Schema))
	proxy := faults.NewProxy(b, url)
	proxy.Slow(farLatency, 0)
	near, far := dial(b, url), dial(b, proxy.URL())
	b.Run("op=round-trip", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, far.Ping(ctx))
		}
	})
	operations := contest.Operations()
	for i := range operations {
		op := &operations[i]
		if op.Slug != "update-1000" {
			continue
		}
		for _, contender := range op.Contenders {
			b.Run("op="+op.Slug+"/with="+contender.Name, func(b *testing.B) {
				client, err := contender.Open(ctx, contest.Env{URL: proxy.URL()})
				require.NoError(b, err)
				defer client.Close()
				session := op.Session(client)
				for b.Loop() {
					b.StopTimer()
					require.NoError(b, op.Setup(ctx, near))
					session.Prepare()
					b.StartTimer()
					require.NoError(b, session.Call(ctx, 0))
				}
			})
		}
	}
}

func dial(b *testing.B, url string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
