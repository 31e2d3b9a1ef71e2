// Command growth measures what becomes of the library's cost when there are more rows, more distinct statements, or more
// goroutines that want a connection, and draws a picture of each.
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
	dir := flags.String("o", "", "directory for the pictures; its performance.md gets the numbers. Default: numbers only, printed")
	rows := flags.Int("rows", 1_000_000, "the most rows")
	statements := flags.Int("statements", 10_000, "the most distinct statements")
	if err := flags.Parse(args); err != nil {
		return err
	}
	arena, err := measure.NewArena(ctx)
	if err != nil {
		return err
	}
	defer arena.Close()
	tell := func(what string, n int) { _, _ = fmt.Fprintln(progress, what, n) }
	cost, memory, err := growth.Rows(ctx, arena.URL(), *rows, tell)
	if err != nil {
		return err
	}
	texts, err := growth.Statements(ctx, arena.URL(), *statements, tell)
	if err != nil {
		return err
	}
	waits, err := growth.Acquire(ctx, arena.URL(), []int{1, 8, 64, 512}, tell)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, chart := range []*growth.Chart{&cost, &memory, &texts, &waits} {
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
