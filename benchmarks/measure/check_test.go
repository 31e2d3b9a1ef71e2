package measure_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestServer_CheckAcceptsAllContenders(t *testing.T) { //nolint:tparallel // they share the table
	t.Parallel()
	server, err := measure.NewServer(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Close)
	operations := contest.Operations()
	for i := range operations {
		if operations[i].Single && os.Getenv("RDSFX_BENCH_CHECK") != "all" {
			continue // too slow: the benchmark command checks them before it measures
		}
		t.Run(operations[i].Slug, func(t *testing.T) {
			require.NoError(t, server.Check(t.Context(), &operations[i]))
		})
	}
}

func TestServer_CheckFindsDifferences(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := measure.NewServer(ctx)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	operations := contest.Operations()
	for index, breakClient := range map[int]func(client *contest.Client){
		0: func(client *contest.Client) {
			get := client.Get
			client.Get = func(ctx context.Context, _ uuid.UUID) error { return get(ctx, contest.Key(7)) }
		},
		2: func(client *contest.Client) {
			insert := client.Insert
			client.Insert = func(ctx context.Context, row *contest.Item) error {
				row.Quantity++
				err := insert(ctx, row)
				row.Quantity--
				return err
			}
		},
	} {
		broken := contest.Raw()
		open := broken.Open
		broken.Name, broken.Open = "broken", func(ctx context.Context, env contest.Env) (*contest.Client, error) {
			client, err := open(ctx, env)
			if err == nil {
				breakClient(client)
			}
			return client, err
		}
		op := operations[index]
		op.Contenders = []contest.Contender{contest.Raw(), broken}
		require.ErrorContains(t, server.Check(ctx, &op), "pgx and broken differ")
	}
}

func TestWriteTable_ContainsRatios(t *testing.T) {
	t.Parallel()
	server, err := measure.NewServer(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Close)
	op := contest.Operations()[0]
	results, err := server.Measure(t.Context(), &op, measure.Replay, measure.Options{Rounds: 2, Block: time.Millisecond})
	require.NoError(t, err)
	require.Len(t, results, len(op.Contenders))
	require.InDelta(t, 1, results[0].Ratio.Median, 0)
	var table, bench strings.Builder
	measure.WriteTable(&table, &op, results)
	require.Contains(t, table.String(), "| pgx | 1.00 | 1.00–1.00 |")
	op.Limits = []contest.Limit{{Contender: "rdsfx", Allocs: 0.5}}
	exceeded := measure.Exceeded(&op, results)
	require.Len(t, exceeded, 1)
	require.Contains(t, exceeded[0], "get: rdsfx: ")
	require.Contains(t, exceeded[0], "allocations per row exceed 0.5")
	measure.WriteBench(&bench, results)
	require.Contains(t, bench.String(), "BenchmarkContest/op=get/mode=replay/with=rdsfx ")
}
