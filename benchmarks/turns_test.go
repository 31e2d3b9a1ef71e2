package benchmarks_test

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// turn is one of those who are measured by turns.
type turn struct {
	name string
	op   func() error
}

// measured is what was measured of a turn.
type measured struct {
	blocks []float64 // nanoseconds an operation
	allocs float64   // an operation
}

func (m *measured) median() float64 {
	sorted := slices.Sorted(slices.Values(m.blocks))
	return sorted[len(sorted)/2]
}

// ratio returns how long the operations took as a multiple of those of others: the median over the rounds.
func (m *measured) ratio(others *measured) float64 {
	ratios := make([]float64, len(m.blocks))
	for i := range ratios {
		ratios[i] = m.blocks[i] / others.blocks[i]
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// warmUp is which part of a block runs before it, unmeasured.
const warmUp = 10

func run(b *testing.B, t turn, times int) {
	b.Helper()
	for range times {
		if err := t.op(); err != nil {
			b.Fatalf("%s: %v", t.name, err)
		}
	}
}

// byTurns runs everybody by turns, in blocks of runs operations, so that they meet the same weather.
func byTurns(b *testing.B, turns []turn, runs int) []measured {
	b.Helper()
	results := make([]measured, len(turns))
	mallocs := make([]uint64, len(turns))
	var before, after runtime.MemStats
	rounds := 0
	for b.Loop() {
		for i, t := range turns {
			run(b, t, 1+runs/warmUp) // what was used last is cold
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
	b.ReportMetric(0, "ns/op") // of all together: it says nothing
	for i := range results {
		results[i].allocs = float64(mallocs[i]) / float64(rounds*runs)
	}
	return results
}
