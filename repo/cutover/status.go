package cutover

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Status describes a cutover. It can be marshalled to JSON.
type Status struct {
	Name  string `json:"name"`
	Phase Phase  `json:"phase"`
	Epoch int64  `json:"epoch"`
	// Changed is when the phase began.
	Changed time.Time `json:"changed"`
	// HeldFor is the phase to which a step is under way that holds the writers, nil if there is none.
	HeldFor *Phase `json:"held_for,omitempty"`
	// Fence is the epoch that the old store accepts. If it is not Epoch, the next writer raises it.
	Fence         int64     `json:"fence"`
	ShadowPercent float64   `json:"shadow_percent"`
	Processes     []Process `json:"processes"`
	// Repairs is the number of keys in the repair log: marks of the old store, or from PrimaryNew on rows in PostgreSQL.
	Repairs int64 `json:"repairs"`
	// OldestRepair is the time of the oldest of them, zero if there is none.
	OldestRepair time.Time        `json:"oldest_repair"`
	Backfill     BackfillProgress `json:"backfill"`
	// Verification is the last full one, nil if there is none.
	Verification *VerifyReport `json:"verification,omitempty"`
	// Shadow counts the shadow reads in the window of the gates.
	Shadow MismatchCounts `json:"shadow"`
	// Next are the gates of the step to the next phase.
	Next []Gate `json:"next"`
	// Undo describes what can be undone.
	Undo string `json:"undo"`
	// OldError is the error of the old store, if it can't be reached. Fence, Repairs and Next are then incomplete.
	OldError string `json:"old_error,omitempty"`
}

// Status returns the present state. It reads both sides. The error reports that PostgreSQL can't be read; an error of the old store
// is part of the status. ctx bounds it.
func (m *Mover[V]) Status(ctx context.Context) (*Status, error) {
	s, err := m.loadState(ctx)
	if err != nil {
		return nil, err
	}
	st := &Status{
		Name: m.name, Phase: s.phase, Epoch: s.epoch, Changed: s.changed, ShadowPercent: s.percent, Undo: s.phase.undo(),
	}
	if s.held {
		st.HeldFor = &s.target
	}
	if st.Processes, err = m.processes(ctx); err != nil {
		return nil, err
	}
	if st.Backfill, err = m.backfillProgress(ctx, s.era); err != nil {
		return nil, err
	}
	if st.Verification, err = m.lastVerification(ctx, s.era); err != nil {
		return nil, err
	}
	if st.Shadow, err = m.windowCounts(ctx, s); err != nil {
		return nil, err
	}
	if s.phase.primaryIsNew() {
		var oldest *time.Time
		err := m.tx.QueryRow(ctx, "select count(*), min(since) from rdsfx_cutover_repairs where name = $1", m.name).Scan(&st.Repairs, &oldest)
		if err != nil {
			return nil, m.stateError("count the repair log", err)
		}
		if oldest != nil {
			st.OldestRepair = *oldest
		}
	}
	if err := m.oldStatus(ctx, s, st); err != nil {
		st.OldError = err.Error()
	}
	return st, nil
}

// oldStatus fills in the part that comes from the old store.
func (m *Mover[V]) oldStatus(ctx context.Context, s *state, st *Status) (err error) {
	if st.Fence, err = m.old.Fence(ctx, 0); err != nil {
		return err
	}
	if !s.phase.primaryIsNew() {
		marks, err := m.old.CountMarks(ctx)
		if err != nil {
			return err
		}
		st.Repairs, st.OldestRepair = marks.Count, marks.Oldest
	}
	st.Next, err = m.gates(ctx, s)
	return err
}

// Step is a step that was taken.
type Step struct {
	Epoch int64 `json:"epoch"`
	Phase Phase `json:"phase"`
	// Forced reports that gates were skipped.
	Forced bool      `json:"forced"`
	Host   string    `json:"host"`
	At     time.Time `json:"at"`
}

// History returns all steps that were taken or undone, the latest first.
func (m *Mover[V]) History(ctx context.Context) ([]Step, error) {
	rows, err := m.tx.Query(ctx, "select epoch, phase, forced, host, at from rdsfx_cutover_steps where name = $1 order by epoch desc", m.name)
	if err != nil {
		return nil, m.stateError("read the history", err)
	}
	steps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Step, err error) {
		var phase string
		if err = row.Scan(&s.Epoch, &phase, &s.Forced, &s.Host, &s.At); err == nil {
			s.Phase, err = ParsePhase(phase)
		}
		return s, err
	})
	return steps, m.stateError("read the history", err)
}

// Clean removes the bookkeeping of the cutover after Done: the marks and versions of the old store, and the repair log in PostgreSQL.
// The fence of the old store and the phase stay, so that a process which hung through the cutover is still refused. The data of the
// old store stays too. Clean may be repeated.
func (m *Mover[V]) Clean(ctx context.Context) error {
	s, err := m.loadState(ctx)
	if err != nil {
		return err
	}
	if s.phase != Done {
		return fmt.Errorf("cutover: %s: clean in phase %s: advance to done first", m.name, s.phase)
	}
	if _, err := m.old.Fence(ctx, s.epoch); err != nil {
		return fmt.Errorf("cutover: %s: clean: raise the fence: %w", m.name, err)
	}
	if cleaner, ok := m.old.(OldCleaner); ok {
		if err := cleaner.Clean(ctx); err != nil {
			return fmt.Errorf("cutover: %s: clean: %w", m.name, err)
		}
	}
	for _, table := range []string{"repairs", "processes", "comparisons", "backfills", "verifications"} {
		if _, err := m.tx.Exec(ctx, "delete from rdsfx_cutover_"+table+" where name = $1", m.name); err != nil {
			return m.stateError("clean", err)
		}
	}
	return nil
}
