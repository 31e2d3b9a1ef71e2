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

func TestArena_CheckAcceptsAllContenders(t *testing.T) { //nolint:tparallel // they share the table
	t.Parallel()
	arena, err := measure.NewArena(t.Context())
	require.NoError(t, err)
	t.Cleanup(arena.Close)
	operations := contest.Operations()
	for i := range operations {
		if operations[i].Single && os.Getenv("RDSFX_BENCH_CHECK") != "all" {
			continue // too slow for a test; the benchmark command checks them before measuring
		}
		t.Run(operations[i].Slug, func(t *testing.T) {
			require.NoError(t, arena.Check(t.Context(), &operations[i]))
		})
	}
}

func TestArena_CheckFindsDifferences(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	arena, err := measure.NewArena(ctx)
	require.NoError(t, err)
	t.Cleanup(arena.Close)
	operations := contest.Operations()
	for position, broken := range map[int]func(client *contest.Client){
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
		wrong := contest.Raw()
		open := wrong.Open
		wrong.Name, wrong.Open = "wrong", func(ctx context.Context, env contest.Env) (*contest.Client, error) {
			client, err := open(ctx, env)
			if err == nil {
				broken(client)
			}
			return client, err
		}
		op := operations[position]
		op.Contenders = []contest.Contender{contest.Raw(), wrong}
		require.ErrorContains(t, arena.Check(ctx, &op), "pgx and wrong differ")
	}
}

func TestWriteTable_RatiosAndGoals(t *testing.T) {
	t.Parallel()
	arena, err := measure.NewArena(t.Context())
	require.NoError(t, err)
	t.Cleanup(arena.Close)
	op := contest.Operations()[0]
	results, err := arena.Compete(t.Context(), &op, measure.Replay, measure.Options{Rounds: 2, Block: time.Millisecond})
	require.NoError(t, err)
	require.Len(t, results, len(op.Contenders))
	require.InDelta(t, 1, results[0].Ratio.Median, 0)
	var table, bench strings.Builder
	measure.WriteTable(&table, &op, results)
	require.Contains(t, table.String(), "| pgx | 1.00 | 1.00–1.00 |")
	require.Contains(t, table.String(), "Goal for rdsfx: replay ≤ 0.50, ≤ 22 allocations. Replay ")
	measure.WriteBench(&bench, results)
	require.Contains(t, bench.String(), "BenchmarkContest/op=get/mode=replay/with=rdsfx ")
}
