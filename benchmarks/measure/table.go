package measure

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
)

// WriteTable writes the results of one operation as a Markdown table, followed by its goals and whether they are reached.
func WriteTable(w *strings.Builder, op *contest.Operation, results []Result) {
	fmt.Fprintf(w, "### %s\n\n", op.Name)
	per := "allocations"
	if op.Rows > 1 {
		per = "allocations a row"
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
				fmt.Fprintf(w, "| %s | ratio | quartiles | time | client CPU | memory | %s |\n|---|---|---|---|---|---|---|\n", mode, per)
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
	for _, goal := range op.Goals {
		fmt.Fprintf(w, "Goal for %s: %s. %s\n\n", goal.Contender, goal.Text, goalResults(goal, op, results))
	}
}

// goalResults returns which parts of a goal are reached, for the modes that were measured.
func goalResults(goal contest.Goal, op *contest.Operation, results []Result) string {
	var parts []string
	report := func(reached bool, format string, args ...any) {
		word := "**missed**"
		if reached {
			word = "reached"
		}
		parts = append(parts, fmt.Sprintf(format, args...)+" "+word)
	}
	for i := range results {
		r, first := &results[i], anchor(results, results[i].Mode)
		if r.Contender != goal.Contender {
			continue
		}
		if limit := goal.Replay; limit > 0 && r.Mode == Replay {
			report(r.Ratio.Median <= limit, "Replay %.3f of %.2f:", r.Ratio.Median, limit)
		}
		if limit := goal.Live; limit > 0 && r.Mode == Live {
			report(r.Ratio.Median <= limit, "Live %.3f of %.3f:", r.Ratio.Median, limit)
		}
		if r.Mode != Replay {
			continue
		}
		if limit := goal.Allocs; limit > 0 {
			n := r.Allocs / float64(op.Rows)
			report(n <= limit, "Allocations %s of %g:", allocations(n), limit)
		}
		if limit := goal.MoreAllocs; limit > 0 {
			more := r.Allocs - first.Allocs
			report(more <= limit-0.5, "Allocations %+.0f of +%g:", more, limit-1)
		}
		if limit := goal.MoreTime; limit > 0 {
			more := r.More.Median
			report(more <= limit, "Time %+.0f ns of +%g:", more, limit)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "."
}

func anchor(results []Result, mode Mode) *Result {
	for i := range results {
		if results[i].Mode == mode {
			return &results[i]
		}
	}
	return nil
}

// WriteBench writes results in the format of go test -bench, for benchstat.
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
