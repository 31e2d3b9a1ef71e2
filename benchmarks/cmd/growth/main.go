// Command growth measures how the library's costs grow with the number of rows, distinct statements, or goroutines that acquire
// connections. It draws a chart of each.
//
//	go run ./benchmarks/cmd/growth -o docs
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/rdsfx-go/rdsfx/benchmarks/growth"
	"github.com/rdsfx-go/rdsfx/benchmarks/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	dir := flags.String("o", "", "directory of the charts and of performance.md, which gets the numbers; without it the numbers are printed")
	rows := flags.Int("rows", 1_000_000, "largest number of rows")
	statements := flags.Int("statements", 10_000, "largest number of distinct statements")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := measure.NewServer(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	report := func(what string, n int) { _, _ = fmt.Fprintln(progress, what, n) }
	cost, memory, err := growth.Rows(ctx, server.URL(), *rows, report)
	if err != nil {
		return err
	}
	statementTimes, err := growth.Statements(ctx, server.URL(), *statements, report)
	if err != nil {
		return err
	}
	waits, err := growth.Acquire(ctx, server.URL(), []int{1, 8, 64, 512}, report)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, chart := range []*growth.Chart{&cost, &memory, &statementTimes, &waits} {
		text.WriteString(chart.Markdown())
		if *dir == "" {
			continue
		}
		if err := chart.Save(*dir); err != nil {
			return err
		}
	}
	if *dir == "" {
		_, err = io.WriteString(out, text.String())
		return err
	}
	return measure.Replace(filepath.Join(*dir, "performance.md"), "growth", text.String())
}
