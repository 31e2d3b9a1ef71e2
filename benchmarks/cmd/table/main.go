// Command table compares rdsfx with its peers. For each operation it prints the time relative to hand-written pgx with its
// quartiles, memory and allocations. It logs each limit of package contest that was exceeded.
//
//	go run ./benchmarks/cmd/table                   all operations, in some minutes
//	go run ./benchmarks/cmd/table -op '^get$' -mode replay
//	go run ./benchmarks/cmd/table -format bench     for benchstat
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/rdsfx-go/rdsfx/benchmarks/contest"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

type settings struct {
	op     *regexp.Regexp
	modes  []measure.Mode
	format string
	output string
	check  bool
	opts   measure.Options
}

func parse(args []string) (*settings, error) {
	var s settings
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	op := flags.String("op", "", "regular expression for the operations; all by default")
	mode := flags.String("mode", "both", "live, replay or both")
	flags.StringVar(&s.format, "format", "table", "table (Markdown) or bench (for benchstat)")
	flags.StringVar(&s.output, "o", "", "file that gets the table, between its lines <!-- table --> and <!-- end of table -->")
	flags.BoolVar(&s.check, "check", true, "first check that all contenders return and store the same")
	flags.IntVar(&s.opts.Rounds, "rounds", 15, "number of turns of each contender")
	flags.DurationVar(&s.opts.Block, "block", 20*time.Millisecond, "approximate time of a turn")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if s.op, err = regexp.Compile(*op); err != nil {
		return nil, fmt.Errorf("-op: %w", err)
	}
	switch *mode {
	case "both":
		s.modes = []measure.Mode{measure.Replay, measure.Live}
	case string(measure.Live), string(measure.Replay):
		s.modes = []measure.Mode{measure.Mode(*mode)}
	default:
		return nil, fmt.Errorf("-mode %s: use live, replay or both", *mode)
	}
	if s.format != "table" && s.format != "bench" {
		return nil, fmt.Errorf("-format %s: use table or bench", s.format)
	}
	if s.opts.Rounds < 1 {
		return nil, errors.New("-rounds: at least 1")
	}
	return &s, nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	server, err := measure.NewServer(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	report := func(what ...string) { _, _ = io.WriteString(progress, strings.Join(what, " ")+"\n") }
	var table strings.Builder
	if s.format == "table" {
		fmt.Fprintf(&table, "%s, %s/%s, %d processors, PostgreSQL %s, load before %s, %d rounds.\n\n",
			runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), server.Version(), load(), s.opts.Rounds)
	}
	operations := contest.Operations()
	for i := range operations {
		op := &operations[i]
		if !s.op.MatchString(op.Slug) {
			continue
		}
		if s.check {
			report(op.Slug, "check")
			if err := server.Check(ctx, op); err != nil {
				return err
			}
		}
		var results []measure.Result
		for _, mode := range s.modes {
			report(op.Slug, string(mode))
			found, err := server.Measure(ctx, op, mode, s.opts)
			if err != nil {
				return err
			}
			results = append(results, found...)
		}
		if s.format == "bench" {
			measure.WriteBench(&table, results)
		} else {
			measure.WriteTable(&table, op, results)
		}
		for _, line := range measure.Exceeded(op, results) {
			report("limit exceeded:", line)
		}
	}
	if s.format == "table" {
		fmt.Fprintf(&table, "Load after: %s.\n", load())
	}
	if s.output != "" {
		return measure.Replace(s.output, "table", table.String())
	}
	_, err = io.WriteString(out, table.String())
	return err
}

// load returns the load average of the last minute, if available.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}
