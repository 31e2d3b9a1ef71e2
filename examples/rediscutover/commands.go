package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// runCommand runs a command of an operator. The process takes no part in the cutover otherwise.
func runCommand(ctx context.Context, o options, args []string) (err error) {
	redisURL, databaseURL, err := addresses()
	if err != nil {
		return err
	}
	s, err := open(ctx, redisURL, databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	v := newView(os.Stdout)
	// docs: commands
	switch command := args[0]; command {
	case "plan":
		plan, err := s.mover.Plan(ctx, cutover.PlanOptions{})
		return show(o, plan, err, printPlan)
	case "status":
		status, err := s.mover.Status(ctx)
		return show(o, status, err, printStatus)
	case "backfill":
		progress, err := s.mover.Backfill(ctx, cutover.BackfillOptions{Progress: v.progress})
		return show(o, &progress, err, func(p *cutover.BackfillProgress) { fmt.Println("backfill:", backfill(*p)) })
	case "verify":
		report, err := s.mover.Verify(ctx, cutover.VerifyOptions{})
		return show(o, report, err, printReport)
	case "repair":
		result, err := s.mover.Repair(ctx)
		return show(o, &result, err, printRepair)
	case "advance":
		result, err := s.mover.Advance(ctx, cutover.AdvanceOptions{Force: o.force, ShadowPercent: 50})
		return show(o, &result, err, func(r *cutover.StepResult) { v.step("advance", *r) })
	case "rollback":
		if len(args) < 2 {
			return errors.New("rollback: name a phase, such as off")
		}
		to, err := cutover.ParsePhase(args[1])
		if err != nil {
			return err
		}
		result, err := s.mover.Rollback(ctx, to)
		return show(o, &result, err, func(r *cutover.StepResult) { v.step("rollback", *r) })
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	// docs: end
}

// show prints a result, or returns the error.
func show[T any](o options, result *T, err error, text func(*T)) error {
	if err != nil {
		return err
	}
	if !o.json {
		text(result)
		return nil
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}

func printPlan(p *cutover.Plan) {
	fmt.Printf("%d keys, about %.1f MB; the backfill takes about %s at %.0f keys/s\n", p.Keys, float64(p.Bytes)/1e6, p.Duration, p.Rate)
	for _, kind := range slices.Sorted(maps.Keys(p.Types)) {
		t := p.Types[kind]
		fmt.Printf("  %-7s %6d keys sampled, %8d bytes, largest %d bytes, %d expire, the last in %s\n",
			kind, t.Keys, t.Bytes, t.Largest, t.Expiring, t.LongestTTL.Round(time.Minute))
	}
}

func printStatus(s *cutover.Status) {
	for _, row := range describe(s) {
		fmt.Printf("%-12s %s\n", row.name, row.text)
	}
}

func printReport(r *cutover.VerifyReport) {
	fmt.Printf("%d keys of Redis, %d of PostgreSQL: %d missing, %d extra, %d different, %d expired, %d raced\n",
		r.OldKeys, r.NewKeys, r.Missing, r.Extra, r.Different, r.Expired, r.Raced)
	for _, m := range r.Listed {
		fmt.Printf("  %s %s\n", m.Kind, m.Key)
	}
}

func printRepair(r *cutover.RepairResult) {
	fmt.Printf("%d keys repaired, %d failed\n", r.Repaired, len(r.Failed))
	for _, failed := range r.Failed {
		fmt.Printf("  %v\n", failed)
	}
}

// progress shows the progress of a backfill on a terminal.
func (v *view) progress(p cutover.BackfillProgress) {
	if !v.terminal {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	_, _ = fmt.Fprintln(v.out, "backfill:", backfill(p))
	v.lines = 1
}
