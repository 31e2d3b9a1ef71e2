package measure_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestAllContendersReturnAndStoreTheSame(t *testing.T) {
	t.Parallel()
	arena, err := measure.NewArena(t.Context())
	require.NoError(t, err)
	t.Cleanup(arena.Close)
	operations := contest.Operations()
	for i := range operations {
		t.Run(operations[i].Slug, func(t *testing.T) { //nolint:paralleltest // they share the table
			require.NoError(t, arena.Check(t.Context(), &operations[i]))
		})
	}
}
