package growth_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/growth"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestCharts_SavedForEachKindOfGrowth(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := measure.NewServer(ctx)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	progress := func(string, int) {}
	cost, memory, err := growth.Rows(ctx, server.URL(), 10, progress)
	require.NoError(t, err)
	statements, err := growth.Statements(ctx, server.URL(), 10, progress)
	require.NoError(t, err)
	waits, err := growth.Acquire(ctx, server.URL(), []int{1, 16}, progress)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, chart := range []*growth.Chart{&cost, &memory, &statements, &waits} {
		for _, line := range chart.Lines {
			require.Len(t, line.Points, 2, line.Name)
			require.Positive(t, line.Points[1].Value, line.Name)
			require.Contains(t, chart.Markdown(), line.Name)
		}
		require.NoError(t, chart.Save(dir))
		picture, err := os.ReadFile(filepath.Join(dir, chart.File))
		require.NoError(t, err)
		require.Contains(t, string(picture), "<svg")
	}
}
