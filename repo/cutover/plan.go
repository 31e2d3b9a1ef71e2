package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// PlanOptions configures [Mover.Plan]. Zero fields mean the defaults.
type PlanOptions struct {
	// Sample is the number of keys to describe. Default: 10,000.
	Sample int
	// Rate is the number of keys a second at which a backfill is expected to copy. Default: that of the last backfill, or else
	// 10,000.
	Rate float64
}

// Plan describes what a cutover has to move.
type Plan struct {
	// Keys is the approximate number of keys.
	Keys int64 `json:"keys"`
	// Sampled is the number of keys that were described. Types are those of the sample.
	Sampled int64               `json:"sampled"`
	Types   map[string]TypePlan `json:"types,omitempty"`
	// Bytes is the estimated size of all keys. Zero if the old store can't describe keys.
	Bytes int64 `json:"bytes"`
	// Rate is the rate on which Duration is based, in keys a second.
	Rate float64 `json:"rate"`
	// Duration is the estimated time of the backfill.
	Duration time.Duration `json:"duration"`
}

// TypePlan describes the sampled keys of a type.
type TypePlan struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
	// Largest is the size of the largest key in bytes.
	Largest int64 `json:"largest"`
	// Expiring is the number of keys that expire, and LongestTTL the longest time until one of them does.
	Expiring   int64         `json:"expiring"`
	LongestTTL time.Duration `json:"longest_ttl"`
}

// Plan estimates the work without changing anything: the number of keys, a sample of their types, sizes and expiries, and the time of a
// backfill. If the old store doesn't implement [OldDescriber], types and sizes are missing. ctx bounds it.
func (m *Mover[V]) Plan(ctx context.Context, options PlanOptions) (*Plan, error) {
	if options.Sample == 0 {
		options.Sample = 10_000
	}
	size, err := m.old.Size(ctx)
	if err != nil {
		return nil, fmt.Errorf("cutover: %s: plan: %w", m.name, err)
	}
	plan := &Plan{Keys: size, Types: map[string]TypePlan{}, Rate: options.Rate}
	if describer, ok := m.old.(OldDescriber); ok {
		err := m.sampleKeys(ctx, describer, options.Sample, plan)
		if err != nil && !errors.Is(err, ErrCursorLost) { // the sample is large enough
			return nil, fmt.Errorf("cutover: %s: plan: %w", m.name, err)
		}
	}
	if plan.Rate == 0 {
		plan.Rate = 10_000
		err := m.tx.QueryRow(ctx, "select coalesce((select rate from rdsfx_cutover_backfills where name = $1 and rate > 0), $2)",
			m.name, plan.Rate).Scan(&plan.Rate)
		if err != nil {
			return nil, m.stateError("read the rate of the backfill", err)
		}
	}
	plan.Duration = time.Duration(float64(plan.Keys) / plan.Rate * float64(time.Second)).Round(time.Second)
	return plan, nil
}

// sampleKeys describes the first keys of a scan.
func (m *Mover[V]) sampleKeys(ctx context.Context, describer OldDescriber, sample int, plan *Plan) error {
	var bytes int64
	for cursor, first := "", true; (first || cursor != "") && plan.Sampled < int64(sample); first = false {
		page, err := m.old.Scan(ctx, cursor, min(500, sample))
		if err != nil {
			return err
		}
		cursor = page.Next
		if len(page.Keys) == 0 {
			continue
		}
		described, err := describer.Describe(ctx, unique(page.Keys)...)
		if err != nil {
			return err
		}
		for _, d := range described {
			if d.Type == "" {
				continue
			}
			t := plan.Types[d.Type]
			t.Keys++
			t.Bytes += d.Bytes
			t.Largest = max(t.Largest, d.Bytes)
			if d.TTL > 0 {
				t.Expiring++
				t.LongestTTL = max(t.LongestTTL, d.TTL)
			}
			plan.Types[d.Type] = t
			plan.Sampled++
			bytes += d.Bytes
		}
	}
	if plan.Sampled > 0 {
		plan.Bytes = int64(float64(bytes) / float64(plan.Sampled) * float64(plan.Keys))
	}
	return nil
}
