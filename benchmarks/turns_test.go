package benchmarks_test

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// turn is an operation that is measured in turn with others.
type turn struct {
	name string
	op   func() error
}

// measured holds the measurements of a turn.
type measured struct {
	blocks []float64 // nanoseconds per operation
	allocs float64   // per operation
}

func (m *measured) median() float64 {
	sorted := slices.Sorted(slices.Values(m.blocks))
	return sorted[len(sorted)/2]
}

// ratio returns the median over the rounds of the time relative to that of others.
func (m *measured) ratio(others *measured) float64 {
	ratios := make([]float64, len(m.blocks))
	for i := range ratios {
		ratios[i] = m.blocks[i] / others.blocks[i]
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// warmUpDivisor sets the share of a block that runs unmeasured before it: 10 %.
const warmUpDivisor = 10

func run(b *testing.B, t turn, times int) {
	b.Helper()
	for range times {
		if err := t.op(); err != nil {
			b.Fatalf("%s: %v", t.name, err)
		}
	}
}

// measureInTurns runs all turns alternately, in blocks of runs operations, so that they run under the same conditions.
func measureInTurns(b *testing.B, turns []turn, runs int) []measured {
	b.Helper()
	results := make([]measured, len(turns))
	mallocs := make([]uint64, len(turns))
	var before, after runtime.MemStats
	rounds := 0
	for b.Loop() {
		for i, t := range turns {
			run(b, t, 1+runs/warmUpDivisor) // caches are cold after the turns of the others
			runtime.ReadMemStats(&before)
			began := time.Now()
			run(b, t, runs)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			results[i].blocks = append(results[i].blocks, float64(took)/float64(runs))
			mallocs[i] += after.Mallocs - before.Mallocs
		}
		rounds++
	}
	b.ReportMetric(0, "ns/op") // the sum over all turns is meaningless
	for i := range results {
		results[i].allocs = float64(mallocs[i]) / float64(rounds*runs)
	}
	return results
}
