package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// StepResult is the result of [Mover.Advance] and [Mover.Rollback].
type StepResult struct {
	From  Phase `json:"from"`
	To    Phase `json:"to"`
	Epoch int64 `json:"epoch"`
	// Held is how long writers were held. Zero for steps that hold none.
	Held time.Duration `json:"held"`
	// Fenced are the processes whose lease had expired. The stores refuse their writes until they observe the new epoch.
	Fenced []Process `json:"fenced,omitempty"`
	// Skipped are the gates that were not passed, if the step was forced.
	Skipped []Gate `json:"skipped,omitempty"`
	// Undo describes what can be undone now.
	Undo string `json:"undo"`
	// FenceError is the error of raising the fence of the old store after the step was taken. The next writer raises it.
	FenceError string `json:"fence_error,omitempty"`
}

// AdvanceOptions configures [Mover.Advance].
type AdvanceOptions struct {
	// Force skips gates that wait for evidence. Gates that protect acknowledged writes can't be skipped.
	Force bool
	// ShadowPercent is the percentage of reads that are compared in ShadowRead. Default: 10. See [Mover.SetShadowPercent].
	ShadowPercent float64
}

// Advance takes the step to the next phase. It waits until all live processes have observed the present epoch and checks the gates. The
// error is a [*GateError] if gates are not passed and a [*NotObservedError] if a live process doesn't observe the epoch in time.
//
// Steps to ReadNew and PrimaryNew hold the writers until every acknowledged write is on both sides, at most for Config.Hold. If that
// isn't enough, the step is undone, Advance returns an error, and the writers continue. The same happens if this process dies.
//
// If two operators advance at once, one step is taken, and the other call returns an error. ctx bounds Advance.
func (m *Mover[V]) Advance(ctx context.Context, options AdvanceOptions) (StepResult, error) {
	before, err := m.loadState(ctx)
	if err != nil {
		return StepResult{}, err
	}
	if before.phase == Done {
		return StepResult{}, fmt.Errorf("cutover: %s: advance: already done", m.name)
	}
	to := before.phase + 1
	skipped, err := m.failedGates(ctx, before, options.Force)
	if err != nil {
		return StepResult{}, err
	}
	if to == ShadowRead {
		if err := m.SetShadowPercent(ctx, orDefault(options.ShadowPercent, 10)); err != nil {
			return StepResult{}, err
		}
	}
	result, err := m.step(ctx, before, to, len(skipped) > 0)
	result.Skipped = skipped
	return result, err
}

// SetShadowPercent sets the percentage of reads that are compared in ShadowRead, from 0 to 100, up to 100 for the step to ReadNew. Every
// process follows within Config.Poll.
func (m *Mover[V]) SetShadowPercent(ctx context.Context, percent float64) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("cutover: %s: shadow percentage %v: use 0 to 100", m.name, percent)
	}
	_, err := m.tx.Exec(ctx, "update rdsfx_cutovers set shadow_percent = $2 where name = $1", m.name, percent)
	return m.stateError("set the shadow percentage", err)
}

// Rollback goes back to an earlier phase, down to Off. It loses nothing: from PrimaryNew it holds the writers until the old store has
// every acknowledged write. It passes through the phases between that other processes need, and waits in each until all live
// processes have observed it. If it fails in between, call it again. Done can't be undone.
//
// With the present phase it only takes a new epoch. Use that if the old store has a later epoch than the state, for example because
// PostgreSQL was restored from a backup.
func (m *Mover[V]) Rollback(ctx context.Context, to Phase) (StepResult, error) {
	before, err := m.loadState(ctx)
	if err != nil {
		return StepResult{}, err
	}
	if before.phase == Done || to > before.phase || to < Off {
		return StepResult{}, fmt.Errorf("cutover: %s: rollback from %s to %s: choose the present phase or an earlier one, before done",
			m.name, before.phase, to)
	}
	total := StepResult{From: before.phase}
	for _, phase := range rollbackSteps(before.phase, to) {
		result, err := m.step(ctx, before, phase, false)
		total.To, total.Epoch, total.Undo, total.FenceError = result.To, result.Epoch, result.Undo, result.FenceError
		total.Held += result.Held
		total.Fenced = result.Fenced
		if err != nil {
			return total, err
		}
		if before, err = m.loadState(ctx); err != nil {
			return total, err
		}
	}
	return total, nil
}

// step takes one step.
func (m *Mover[V]) step(ctx context.Context, before *state, to Phase, forced bool) (StepResult, error) {
	result := StepResult{From: before.phase, To: before.phase, Epoch: before.epoch, Undo: before.phase.undo()}
	before, err := m.awaitReleased(ctx, before)
	if err != nil {
		return result, err
	}
	fence, err := m.old.Fence(ctx, 0)
	if err != nil && to != Done { // Done needs nothing of the old store
		return result, fmt.Errorf("cutover: %s: read the fence of the old store: %w", m.name, err)
	}
	c := change{phase: to, atLeast: fence + 1, forced: forced}
	if holdsWriters(before.phase, to) {
		c.phase, c.target, c.hold = before.phase, &to, m.config.Hold
	}
	if c.target != nil {
		_, _ = m.Repair(ctx) // shortens the time for which the writers are held, which does the same again
	}
	after, err := m.changeWhenObserved(ctx, before, c, &result)
	if err != nil {
		return result, err
	}
	if after.held {
		began := time.Now()
		after, err = m.finishHeld(ctx, after, to, forced)
		result.Held = time.Since(began)
		if err != nil {
			return result, err
		}
	}
	result.To, result.Epoch, result.Undo = after.phase, after.epoch, after.phase.undo()
	if _, err := m.old.Fence(ctx, after.epoch); err != nil {
		result.FenceError = err.Error()
	}
	m.logger.Info("step taken", zap.Stringer("from", result.From), zap.Stringer("to", result.To), zap.Int64("epoch", result.Epoch),
		zap.Duration("held", result.Held), zap.Bool("forced", forced), zap.Int("fenced", len(result.Fenced)))
	return result, nil
}

// awaitReleased waits while another step holds the writers. It undoes that step at the end of its hold, if no other process does. If the
// other step was taken, the error is ErrStepLost.
func (m *Mover[V]) awaitReleased(ctx context.Context, before *state) (*state, error) {
	s := before
	for s.held {
		if s.now.After(s.until) {
			m.undoAbandoned(ctx, s)
		}
		if err := wait(ctx, heldPause); err != nil {
			return nil, fmt.Errorf("cutover: %s: a step to %s is under way until %s: %w", m.name, s.target, s.until, err)
		}
		var err error
		if s, err = m.loadState(ctx); err != nil {
			return nil, err
		}
	}
	if s.phase != before.phase {
		return nil, m.stateError("step", ErrStepLost)
	}
	return s, nil
}

// changeWhenObserved changes the state as soon as all live processes have observed it. Dead ones are waited for until their leases
// expire. The check runs under the step lock, so no process can join or renew its lease in between.
func (m *Mover[V]) changeWhenObserved(ctx context.Context, before *state, c change, result *StepResult) (*state, error) {
	deadline := time.Now().Add(2 * m.config.Lease)
	for {
		after, err := m.changeState(ctx, before, c, func(ctx context.Context) error {
			processes, err := m.processes(ctx)
			if err != nil {
				return err
			}
			var late, fenced []Process
			for _, p := range processes {
				switch {
				case p.Live && p.Epoch < before.epoch:
					late = append(late, p)
				case !p.Live:
					fenced = append(fenced, p)
				}
			}
			if len(late) > 0 {
				return &NotObservedError{late}
			}
			result.Fenced = fenced
			return nil
		})
		var late *NotObservedError
		if !errors.As(err, &late) || time.Now().After(deadline) {
			return after, err
		}
		if err := wait(ctx, m.config.Poll/4); err != nil {
			return nil, fmt.Errorf("%w: %w", late, err)
		}
	}
}

// processes returns the processes that have taken part, in the order of their start. Leases that expired a day ago are forgotten.
func (m *Mover[V]) processes(ctx context.Context) ([]Process, error) {
	rows, err := m.tx.Query(ctx, `select id::text, host, pid, epoch, started, expires, expires > clock_timestamp()
		from rdsfx_cutover_processes where name = $1 and expires > clock_timestamp() - interval '1 day' order by started, id`, m.name)
	if err != nil {
		return nil, err
	}
	processes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Process, err error) {
		err = row.Scan(&p.ID, &p.Host, &p.PID, &p.Epoch, &p.Started, &p.Expires, &p.Live)
		return p, err //nolint:wrapcheck // wrapped below
	})
	return processes, m.stateError("read the processes", err)
}

const undoTimeout = 5 * time.Second

// finishHeld finishes a step while the writers are held. It raises the fence, so no writer that was under way can be accepted any more.
// It works the repair log off, so the other side has every acknowledged write, and commits the new phase. If any of that fails, it
// undoes the step. If this process dies, another one does so at the end of the hold.
func (m *Mover[V]) finishHeld(ctx context.Context, held *state, to Phase, forced bool) (*state, error) {
	holdCtx, cancel := context.WithTimeout(ctx, m.config.Hold)
	defer cancel()
	after, err := func() (*state, error) {
		fence, err := m.old.Fence(holdCtx, held.epoch)
		if err != nil {
			return nil, fmt.Errorf("raise the fence: %w", err)
		}
		if err := m.drain(holdCtx, held.phase); err != nil {
			return nil, fmt.Errorf("work the repair log off: %w", err)
		}
		return m.changeState(holdCtx, held, change{phase: to, atLeast: fence + 1, forced: forced}, nil)
	}()
	if err == nil {
		return after, nil
	}
	err = fmt.Errorf("cutover: %s: step from %s to %s: %w", m.name, held.phase, to, err)
	undoCtx, cancelUndo := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancelUndo()
	undone, undoErr := m.changeState(undoCtx, held, change{phase: held.phase}, nil)
	if errors.Is(undoErr, ErrStepLost) { // by the commit whose reply was lost, or because another process has undone it
		if found, loadErr := m.loadState(undoCtx); loadErr == nil && found.phase == to && !found.held {
			return found, nil
		}
		return nil, fmt.Errorf("%w (the step was undone after %v)", err, m.config.Hold)
	}
	if undoErr != nil {
		return nil, errors.Join(err, fmt.Errorf("undo the step, which another process does at %s: %w", held.until, undoErr))
	}
	if _, fenceErr := m.old.Fence(undoCtx, undone.epoch); fenceErr != nil {
		err = errors.Join(err, fmt.Errorf("raise the fence, which the next writer does: %w", fenceErr))
	}
	return nil, fmt.Errorf("%w (the step was undone)", err)
}

func orDefault(value, fallback float64) float64 {
	if value == 0 {
		return fallback
	}
	return value
}
