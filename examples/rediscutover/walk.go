package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/repo/cutover/redisstore"
)

// walk takes the cutover from Off to Done. In the middle it goes back once, as an operator does who has seen an alarm.
func walk(ctx context.Context, s *stores, v *view) error {
	rolledBack := false
	for {
		status, err := s.mover.Status(ctx)
		if err != nil {
			return err
		}
		switch status.Phase { //nolint:exhaustive // the others need only the step
		case cutover.Done:
			return s.mover.Clean(ctx)
		case cutover.Backfill:
			progress, err := s.mover.Backfill(ctx, cutover.BackfillOptions{})
			if err != nil {
				return err
			}
			v.printf("backfill complete: %d keys", progress.Keys)
		case cutover.Verify:
			report, err := s.mover.Verify(ctx, cutover.VerifyOptions{})
			if err != nil {
				return err
			}
			v.printf("verified %d keys of Redis and %d of PostgreSQL: %d mismatches", report.OldKeys, report.NewKeys, report.Mismatches())
		case cutover.PrimaryNew:
			if !rolledBack {
				rolledBack = true
				result, err := s.mover.Rollback(ctx, cutover.ReadNew)
				if err != nil {
					return err
				}
				v.step("rollback", result)
				continue
			}
		}
		if err := advance(ctx, s, v, cutover.AdvanceOptions{ShadowPercent: 50}); err != nil {
			return err
		}
	}
}

// advance takes a step and waits for gates that need time.
func advance(ctx context.Context, s *stores, v *view, options cutover.AdvanceOptions) error {
	for {
		result, err := s.mover.Advance(ctx, options)
		if err == nil {
			v.step("advance", result)
			return nil
		}
		if _, blocked := errors.AsType[*cutover.GateError](err); !blocked {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// audit compares PostgreSQL with the acknowledged writes.
func audit(ctx context.Context, s *stores, load *traffic, v *view) error {
	var wrong int
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(load.books)), 500) {
		rows, err := s.mover.Store().GetMany(ctx, keys...)
		if err != nil {
			return err
		}
		for _, row := range rows {
			want := load.books[row.Key]
			if row.Found != (want != nil) || row.Found && !equal(row.Value, *want) {
				wrong++
			}
		}
	}
	v.printf("done: %d acknowledged writes of %d keys, %d errors; %d keys differ in PostgreSQL",
		load.writes.Load(), len(load.books), load.errors.Load(), wrong)
	if wrong > 0 {
		return fmt.Errorf("%d keys do not have the last acknowledged value", wrong)
	}
	return nil
}

func equal(a, b redisstore.Value) bool {
	slices.Sort(b.Set)
	return reflect.DeepEqual(a, b)
}
