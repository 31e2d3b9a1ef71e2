package cutover

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Gate is a condition of a step.
type Gate struct {
	// Name is the name of the gate, for example "backfill".
	Name string `json:"name"`
	// Passed reports whether the condition holds.
	Passed bool `json:"passed"`
	// Found describes the present state, and Wanted what the gate requires, in words with numbers.
	Found  string `json:"found"`
	Wanted string `json:"wanted"`
	// Action is what to do if the gate is not passed.
	Action string `json:"action,omitempty"`
	// Safety is true if skipping the gate could lose acknowledged writes. Force doesn't skip it.
	Safety bool `json:"safety"`
}

// GateError is returned by [Mover.Advance] if gates are not passed. Nothing has changed.
type GateError struct {
	// To is the phase to which the step was to lead.
	To Phase
	// Failed are the gates that are not passed.
	Failed []Gate
}

func (e *GateError) Error() string {
	reasons := make([]string, len(e.Failed))
	for i, g := range e.Failed {
		reasons[i] = fmt.Sprintf("%s: %s, wanted %s; %s", g.Name, g.Found, g.Wanted, g.Action)
	}
	return fmt.Sprintf("cutover: the step to %s is blocked by its gates: %s", e.To, strings.Join(reasons, " · "))
}

// failedGates returns the gates that are not passed and may be skipped, if force is true. If other gates are not met, the error is a
// *GateError with all of them.
func (m *Mover[V]) failedGates(ctx context.Context, s *state, force bool) ([]Gate, error) {
	gates, err := m.gates(ctx, s)
	if err != nil {
		return nil, err
	}
	var failed []Gate
	blocked := false
	for _, g := range gates {
		if !g.Passed {
			failed = append(failed, g)
			blocked = blocked || g.Safety || !force
		}
	}
	if blocked {
		return nil, &GateError{To: s.phase + 1, Failed: failed}
	}
	return failed, nil
}

// gates returns the gates of the step to the next phase.
func (m *Mover[V]) gates(ctx context.Context, s *state) ([]Gate, error) {
	switch to := s.phase + 1; to {
	case Verify, ShadowRead, ReadNew, PrimaryNew:
		gates, err := m.copyGates(ctx, s)
		if err != nil {
			return nil, err
		}
		switch to {
		case ShadowRead:
			gate, err := m.verificationGate(ctx, s)
			return append(gates, gate), err
		case ReadNew:
			more, err := m.shadowGates(ctx, s)
			return append(gates, more...), err
		case PrimaryNew:
			return append(gates, m.soakGate(s)), nil
		default:
			return gates, nil
		}
	case Done:
		return []Gate{m.soakGate(s)}, nil
	default:
		return nil, nil
	}
}

// copyGates returns the gates which ensure that PostgreSQL has all keys.
func (m *Mover[V]) copyGates(ctx context.Context, s *state) ([]Gate, error) {
	progress, err := m.backfillProgress(ctx, s.era)
	if err != nil {
		return nil, err
	}
	marks, err := m.old.CountMarks(ctx)
	if err != nil {
		return nil, fmt.Errorf("cutover: %s: count the repair log: %w", m.name, err)
	}
	return []Gate{{
		Name: "backfill", Safety: true, Passed: progress.Complete, Wanted: "complete since the dual writes began",
		Found:  fmt.Sprintf("%d of about %d keys, complete: %t", progress.Keys, progress.Total, progress.Complete),
		Action: "call Backfill",
	}, {
		Name: "repair log", Passed: marks.Count <= m.config.Gates.MaxRepairs, Wanted: fmt.Sprintf("at most %d keys", m.config.Gates.MaxRepairs),
		Found:  fmt.Sprintf("%d keys", marks.Count),
		Action: "call Repair and see its errors",
	}}, nil
}

func (m *Mover[V]) verificationGate(ctx context.Context, s *state) (Gate, error) {
	gate := Gate{
		Name: "verification", Action: "call Verify for all keys; with Repair it copies what differs", Found: "none",
		Wanted: fmt.Sprintf("a full one since the dual writes began, with at most %d mismatches", m.config.Gates.MaxMismatches),
	}
	report, err := m.lastVerification(ctx, s.era)
	if err != nil || report == nil {
		return gate, err
	}
	gate.Passed = report.Mismatches() <= m.config.Gates.MaxMismatches
	finished := report.Finished.UTC().Format(time.DateTime)
	gate.Found = fmt.Sprintf("%d mismatches in %d keys at %s", report.Mismatches(), report.OldKeys, finished)
	return gate, nil
}

func (m *Mover[V]) shadowGates(ctx context.Context, s *state) ([]Gate, error) {
	counts, err := m.windowCounts(ctx, s)
	if err != nil {
		return nil, err
	}
	g := m.config.Gates
	lasted := s.now.Sub(s.changed)
	rate := 0.0
	if counts.Compared > 0 {
		rate = float64(counts.Mismatches()) / float64(counts.Compared)
	}
	return []Gate{{
		Name: "shadow time", Passed: lasted >= g.Window, Found: lasted.Round(time.Second).String(), Wanted: g.Window.String(),
		Action: "wait",
	}, {
		Name: "shadow reads", Passed: counts.Compared >= g.MinComparisons, Found: fmt.Sprintf("%d compared", counts.Compared),
		Wanted: fmt.Sprintf("%d in the last %v", g.MinComparisons, g.Window), Action: "raise the percentage with SetShadowPercent, or wait",
	}, {
		Name: "shadow mismatches", Passed: rate <= g.MaxMismatchRate, Wanted: fmt.Sprintf("a share of at most %g", g.MaxMismatchRate),
		Found: fmt.Sprintf("%d of %d (%d missing, %d extra, %d different)",
			counts.Mismatches(), counts.Compared, counts.Missing, counts.Extra, counts.Different),
		Action: "call Verify to find the keys, and find out what writes to one side only",
	}}, nil
}

func (m *Mover[V]) soakGate(s *state) Gate {
	lasted := s.now.Sub(s.changed)
	return Gate{
		Name: "soak", Passed: lasted >= m.config.Gates.Soak, Found: lasted.Round(time.Second).String(), Wanted: m.config.Gates.Soak.String(),
		Action: "wait",
	}
}

// windowCounts returns the shadow reads in the window, since the phase began.
func (m *Mover[V]) windowCounts(ctx context.Context, s *state) (c MismatchCounts, err error) {
	err = m.tx.QueryRow(ctx, `select coalesce(sum(compared), 0), coalesce(sum(missing), 0), coalesce(sum(extra), 0),
			coalesce(sum(different), 0), coalesce(sum(expired), 0), coalesce(sum(raced), 0)
		from rdsfx_cutover_comparisons where name = $1
			and minute >= date_trunc('minute', greatest($2::timestamptz, clock_timestamp() - make_interval(secs => $3)))`,
		m.name, s.changed, m.config.Gates.Window.Seconds()).
		Scan(&c.Compared, &c.Missing, &c.Extra, &c.Different, &c.Expired, &c.Raced)
	return c, m.stateError("read the shadow reads", err)
}
