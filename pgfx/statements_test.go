package pgfx_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// tableModel is the table of statements as its promise says: it looks through everything for what is worth least.
type tableModel struct {
	capacity  int
	values    map[string]time.Duration
	evictions int64
}

// run counts a run. gone tells which of those that are worth least has to go.
func (m *tableModel) run(text string, took time.Duration, gone func(least []string) string) {
	if _, there := m.values[text]; !there {
		credit := time.Duration(0)
		if len(m.values) == m.capacity {
			var least []string
			credit = slices.Min(slices.Collect(maps.Values(m.values)))
			for text, value := range m.values {
				if value == credit {
					least = append(least, text)
				}
			}
			delete(m.values, gone(least))
			m.evictions++
		}
		m.values[text] = credit
	}
	m.values[text] += took
}

func TestTheStatementThatMakesRoomIsAlwaysOneOfTheLeastValue(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 2, 7, 64} {
		for _, texts := range []int{capacity + 1, 2 * capacity, 20 * capacity} {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			favourites := rand.NewZipf(random, 1.2, 1, uint64(texts-1))
			table, model := pgfx.NewStatementTable(capacity), tableModel{capacity: capacity, values: map[string]time.Duration{}}
			for step := range 1000 {
				text := strconv.FormatUint(favourites.Uint64(), 10)
				if step%3 == 0 { // what isn't a favourite
					text = strconv.Itoa(random.IntN(texts))
				}
				took := time.Duration(random.IntN(5)) // equal ones, and none
				if step%100 == 0 {
					took = 2 * time.Second // which a histogram keeps elsewhere
				}
				table.Run(text, took)
				model.run(text, took, func(least []string) string {
					now := table.Values()
					for _, text := range least {
						if _, there := now[text]; !there {
							return text
						}
					}
					require.Failf(t, "another one went", "seed %d, step %d: none of %v", seed, step, least)
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
