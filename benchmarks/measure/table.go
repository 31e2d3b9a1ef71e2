package measure

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// WriteTable writes the results of one operation as Markdown tables, one for each mode.
func WriteTable(w *strings.Builder, op *contest.Operation, results []Result) {
	fmt.Fprintf(w, "### %s\n\n", op.Name)
	allocsHeader := "allocations"
	if op.Rows > 1 {
		allocsHeader = "allocations per row"
	}
	for _, mode := range []Mode{Replay, Live} {
		written := false
		for i := range results {
			r := &results[i]
			if r.Mode != mode {
				continue
			}
			if !written {
				written = true
				fmt.Fprintf(w, "| %s | ratio | quartiles | time | client CPU | memory | %s |\n|---|---|---|---|---|---|---|\n", mode, allocsHeader)
			}
			cpu := "–"
			if r.CPU > 0 && mode == Live {
				cpu = fmt.Sprintf("%.2f", r.CPU)
			}
			fmt.Fprintf(w, "| %s | %.2f | %.2f–%.2f | %s | %s | %s | %s |\n", r.Contender, r.Ratio.Median, r.Ratio.Low, r.Ratio.High,
				duration(r.Time.Median), cpu, memory(r.Bytes), allocations(r.Allocs/float64(op.Rows)))
		}
		if written {
			w.WriteString("\n")
		}
	}
}

// Exceeded compares the results of one operation with its limits, as far as they were measured. It returns a line for each
// limit that was exceeded.
func Exceeded(op *contest.Operation, results []Result) []string {
	var lines []string
	for _, limit := range op.Limits {
		for i := range results {
			if results[i].Contender == limit.Contender {
				lines = append(lines, exceeded(limit, op, &results[i], baseline(results, results[i].Mode))...)
			}
		}
	}
	return lines
}

func exceeded(limit contest.Limit, op *contest.Operation, r, first *Result) []string {
	var lines []string
	check := func(value, limit float64, format string) {
		if limit > 0 && value > limit {
			lines = append(lines, fmt.Sprintf("%s: %s: "+format, op.Slug, r.Contender, value, limit))
		}
	}
	if r.Mode == Live {
		check(r.Ratio.Median, limit.Live, "live ratio %.3f exceeds %.3f")
		return lines
	}
	check(r.Ratio.Median, limit.Replay, "replay ratio %.3f exceeds %.3f")
	check(r.Allocs/float64(op.Rows), limit.Allocs, "%.2f allocations per row exceed %g")
	// ExtraAllocs counts from one; half an allocation is background noise.
	if extra := r.Allocs - first.Allocs; limit.ExtraAllocs > 0 && extra > limit.ExtraAllocs-0.5 {
		lines = append(lines, fmt.Sprintf("%s: %s: %.0f allocations more than the first contender exceed %g",
			op.Slug, r.Contender, extra, limit.ExtraAllocs-1))
	}
	return lines
}

// baseline returns the first contender's result.
func baseline(results []Result, mode Mode) *Result {
	for i := range results {
		if results[i].Mode == mode {
			return &results[i]
		}
	}
	return nil
}

// WriteBench writes the results in the format of go test -bench, for benchstat.
func WriteBench(w *strings.Builder, results []Result) {
	for i := range results {
		r := &results[i]
		fmt.Fprintf(w, "BenchmarkContest/op=%s/mode=%s/with=%s %d %.0f ns/op %.0f B/op %.0f allocs/op\n",
			r.Operation.Slug, r.Mode, r.Contender, r.Calls, r.Time.Median, r.Bytes, r.Allocs)
	}
}

func duration(ns float64) string {
	switch {
	case ns < 1e4:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	default:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	}
}

func memory(bytes float64) string {
	switch {
	case bytes < 1e4:
		return fmt.Sprintf("%.0f B", bytes)
	case bytes < 1e6:
		return fmt.Sprintf("%.1f kB", bytes/1e3)
	default:
		return fmt.Sprintf("%.1f MB", bytes/1e6)
	}
}

func allocations(n float64) string {
	if n < 10 && n != float64(int(n)) {
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}
