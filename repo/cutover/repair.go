package cutover

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// RepairResult is the result of [Mover.Repair].
type RepairResult struct {
	// Repaired is the number of entries of the repair log that were worked off.
	Repaired int
	// Failed are the keys that could not be copied. They stay in the repair log.
	Failed []*KeyError
}

// Repair works the repair log off once: it copies every key in it to the other side. Each process does the same all the time. Call Repair
// to see the errors, or to speed it up. In Off and Done it does nothing. The error reports a store that can't be reached. ctx
// bounds it.
func (m *Mover[V]) Repair(ctx context.Context) (RepairResult, error) {
	var total RepairResult
	s, err := m.loadState(ctx)
	if err != nil {
		return total, err
	}
	page := m.repairPage(s.phase)
	for cursor := ""; page != nil; {
		next, repaired, failed, err := page(ctx, cursor)
		total.Repaired += repaired
		total.Failed = append(total.Failed, failed...)
		if errors.Is(err, errOtherPrimary) || errors.Is(err, ErrFenced) { // a step has come in between
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("cutover: %s: repair: %w", m.name, err)
		}
		if next == "" {
			break
		}
		cursor = next
	}
	return total, nil
}

type repairPage func(ctx context.Context, cursor string) (next string, repaired int, failed []*KeyError, err error)

// repairPage returns the function that works off a page of the repair log, nil if the phase has none.
func (m *Mover[V]) repairPage(phase Phase) repairPage {
	switch {
	case phase.copiesWrites():
		return m.repairMarks
	case phase == PrimaryNew:
		return m.repairRows
	}
	return nil
}

// keepRepairing works the repair log off once in each call.
func (m *Mover[V]) keepRepairing() func(context.Context) {
	cursor, logged, phase := "", "", Off
	return func(ctx context.Context) {
		v := m.view.Load()
		if v == nil || m.repairPage(v.phase) == nil {
			return
		}
		if v.phase != phase {
			cursor, phase = "", v.phase
		}
		var failed []*KeyError
		var err error
		for first := true; err == nil && (first || cursor != ""); first = false { // a pass, or the rest of one
			var bad []*KeyError
			cursor, _, bad, err = m.repairPage(phase)(ctx, cursor)
			failed = append(failed, bad...)
		}
		if err == nil && len(failed) > 0 {
			err = failed[0]
		}
		switch {
		case errors.Is(err, errOtherPrimary), errors.Is(err, ErrFenced), ctx.Err() != nil:
			cursor = ""
		case err == nil:
			logged = ""
		case err.Error() != logged:
			logged = err.Error()
			m.logger.Warn("cannot repair keys", zap.Int("failed", len(failed)), zap.Error(err))
		}
	}
}

// drain works the repair log off until it is empty. It is called while the writers are held, so nothing is added meanwhile.
func (m *Mover[V]) drain(ctx context.Context, phase Phase) error {
	for {
		var failed []*KeyError
		for cursor, first := "", true; first || cursor != ""; first = false {
			next, _, bad, err := m.repairPage(phase)(ctx, cursor)
			if err != nil {
				return err
			}
			failed, cursor = append(failed, bad...), next
		}
		left, err := m.countRepairs(ctx, phase)
		switch {
		case err != nil:
			return err
		case left == 0:
			return nil
		case len(failed) > 0:
			return fmt.Errorf("%d keys can't be copied, the first: %w", len(failed), failed[0])
		}
	}
}

// countRepairs returns the number of entries in the repair log of the phase.
func (m *Mover[V]) countRepairs(ctx context.Context, phase Phase) (int64, error) {
	if !phase.primaryIsNew() {
		count, err := m.old.CountMarks(ctx)
		return count.Count, err
	}
	var rows int64
	err := m.tx.QueryRow(ctx, "select count(*) from rdsfx_cutover_repairs where name = $1", m.name).Scan(&rows)
	return rows, m.stateError("count the repair log", err)
}
