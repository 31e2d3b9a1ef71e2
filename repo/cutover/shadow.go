package cutover

import (
	"context"
	"math/rand/v2"
	"sync"

	"go.uber.org/zap"
)

// shadow compares reads of the old store with PostgreSQL in the background and counts the results.
type shadow struct {
	slots chan struct{} // one for each comparison that is under way

	mu      sync.Mutex
	counts  MismatchCounts // since they were last stored
	dropped int64          // comparisons that were not made, because all slots were in use or a store failed
}

// shadowRead compares what was read from the old store with PostgreSQL, for a percentage of the calls. It doesn't wait.
func (m *Mover[V]) shadowRead(v *view, entries []Entry[V]) {
	if v.phase != ShadowRead || len(entries) == 0 || rand.Float64()*100 >= m.shadowPercent() {
		return
	}
	select {
	case m.shadow.slots <- struct{}{}:
	default:
		m.shadow.drop(len(entries))
		return
	}
	running := m.inBackground(func(ctx context.Context) {
		defer func() { <-m.shadow.slots }()
		m.compareRead(ctx, v, entries)
	})
	if !running {
		<-m.shadow.slots
	}
}

// shadowPercent returns the percentage, which can change without a step.
func (m *Mover[V]) shadowPercent() float64 {
	if v := m.view.Load(); v != nil {
		return v.percent
	}
	return 0
}

func (m *Mover[V]) compareRead(ctx context.Context, v *view, entries []Entry[V]) {
	ctx, cancel := context.WithTimeout(ctx, m.config.Lease)
	defer cancel()
	keys := make([]string, len(entries))
	for i := range entries {
		keys[i] = entries[i].Key
	}
	mismatches, err := m.compareEntries(ctx, v, keys, entries)
	if err != nil {
		if ctx.Err() == nil {
			m.logger.Debug("cannot compare a read", zap.Error(err))
		}
		m.shadow.drop(len(entries))
		return
	}
	m.shadow.mu.Lock()
	defer m.shadow.mu.Unlock()
	m.shadow.counts.Compared += int64(len(entries))
	for _, mismatch := range mismatches {
		m.shadow.counts.add(mismatch.Kind)
	}
}

// compareEntries compares entries of the old store with PostgreSQL, and once more under the locks of the keys if they differ.
func (m *Mover[V]) compareEntries(ctx context.Context, v *view, keys []string, entries []Entry[V]) ([]Mismatch, error) {
	copied, err := m.new.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var suspects []string
	now := v.now()
	for i := range entries {
		_, equal, err := m.compare(entries[i].live(now), copied[i].live(now), now)
		if err != nil {
			return nil, err
		}
		if !equal {
			suspects = append(suspects, keys[i])
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	return m.compareLocked(ctx, unique(suspects))
}

func (s *shadow) drop(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += int64(n)
}

// flushComparisons adds the counts of this process to those of the present minute.
func (m *Mover[V]) flushComparisons(ctx context.Context) error {
	m.shadow.mu.Lock()
	counts, dropped := m.shadow.counts, m.shadow.dropped
	m.shadow.counts, m.shadow.dropped = MismatchCounts{}, 0
	m.shadow.mu.Unlock()
	if counts.Compared == 0 && dropped == 0 {
		return nil
	}
	_, err := m.tx.Exec(ctx, `insert into rdsfx_cutover_comparisons as c
		(name, minute, compared, missing, extra, different, expired, raced, dropped)
		values ($1, date_trunc('minute', clock_timestamp()), $2, $3, $4, $5, $6, $7, $8)
		on conflict (name, minute) do update set compared = c.compared + excluded.compared, missing = c.missing + excluded.missing,
			extra = c.extra + excluded.extra, different = c.different + excluded.different, expired = c.expired + excluded.expired,
			raced = c.raced + excluded.raced, dropped = c.dropped + excluded.dropped`,
		m.name, counts.Compared, counts.Missing, counts.Extra, counts.Different, counts.Expired, counts.Raced, dropped)
	return m.stateError("store the shadow reads", err)
}

// unique returns the different keys in their order.
func unique(keys []string) []string {
	seen := make(map[string]bool, len(keys))
	var all []string
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			all = append(all, key)
		}
	}
	return all
}
