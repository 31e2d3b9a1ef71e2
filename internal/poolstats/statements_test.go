package poolstats_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// tableModel is a simple model of the statement table.
type tableModel struct {
	capacity  int
	values    map[string]time.Duration
	evictions int64
}

// record counts an execution. choose selects the text to evict among those of the smallest value.
func (m *tableModel) record(text string, took time.Duration, choose func(least []string) string) {
	if _, ok := m.values[text]; !ok {
		credit := time.Duration(0)
		if len(m.values) == m.capacity {
			var least []string
			credit = slices.Min(slices.Collect(maps.Values(m.values)))
			for text, value := range m.values {
				if value == credit {
					least = append(least, text)
				}
			}
			delete(m.values, choose(least))
			m.evictions++
		}
		m.values[text] = credit
	}
	m.values[text] += took
}

func TestStatementTable_EvictsTheSmallestValue(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 2, 7, 64} {
		for _, distinct := range []int{capacity + 1, 2 * capacity, 20 * capacity} {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			frequent := rand.NewZipf(random, 1.2, 1, uint64(distinct-1))
			table, model := poolstats.NewStatementTable(capacity), tableModel{capacity: capacity, values: map[string]time.Duration{}}
			for step := range 1000 {
				text := strconv.FormatUint(frequent.Uint64(), 10)
				if step%3 == 0 {
					text = strconv.Itoa(random.IntN(distinct))
				}
				took := time.Duration(random.IntN(5)) // often the same, and often none
				table.Record(text, took)
				model.record(text, took, func(least []string) string {
					now := table.Values()
					for _, text := range least {
						if _, ok := now[text]; !ok {
							return text
						}
					}
					require.Failf(t, "another entry was evicted", "seed %d, step %d: none of %v", seed, step, least)
					return ""
				})
				if step%20 == 0 {
					require.Equal(t, model.values, table.Values(), "seed %d, step %d", seed, step)
				}
			}
			require.Equal(t, model.evictions, table.Evictions())
		}
	}
}
