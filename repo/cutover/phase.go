package cutover

import (
	"fmt"
	"strings"
)

// Phase is a stage of a cutover. The phases follow each other in the order of their values.
type Phase int

const (
	// Off uses only the old store. Its writes carry the epoch already, so no write without a mark can be under way when
	// DualWrite begins. Deploy the library to every process in this phase.
	Off Phase = iota
	// DualWrite copies each written key to PostgreSQL. The old store is the primary: a write succeeds if the old store has it.
	DualWrite
	// Backfill copies the keys that have not been written since.
	Backfill
	// Verify compares both sides.
	Verify
	// ShadowRead compares a percentage of the reads with PostgreSQL. Callers get the values of the old store.
	ShadowRead
	// ReadNew reads from PostgreSQL. The old store is still the primary of writes.
	ReadNew
	// PrimaryNew writes to PostgreSQL first and copies each written key back to the old store, so that a rollback loses nothing.
	PrimaryNew
	// Done uses only PostgreSQL. It can't be undone.
	Done
)

var phaseNames = [...]string{"off", "dual_write", "backfill", "verify", "shadow_read", "read_new", "primary_new", "done"}

// String returns the name of the phase in snake case, for example "dual_write".
func (p Phase) String() string {
	if p < Off || p > Done {
		return fmt.Sprintf("Phase(%d)", int(p))
	}
	return phaseNames[p]
}

// MarshalText implements encoding.TextMarshaler.
func (p Phase) MarshalText() ([]byte, error) {
	if p < Off || p > Done {
		return nil, fmt.Errorf("cutover: unknown phase %d", int(p))
	}
	return []byte(phaseNames[p]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Phase) UnmarshalText(text []byte) error {
	phase, err := ParsePhase(string(text))
	if err != nil {
		return err
	}
	*p = phase
	return nil
}

// ParsePhase returns the phase with this name.
func ParsePhase(name string) (Phase, error) {
	for i, known := range phaseNames {
		if name == known {
			return Phase(i), nil
		}
	}
	return 0, fmt.Errorf("cutover: unknown phase %q: use one of %s", name, strings.Join(phaseNames[:], ", "))
}

// primaryIsNew reports whether PostgreSQL is the primary of writes.
func (p Phase) primaryIsNew() bool { return p >= PrimaryNew }

// readsNew reports whether callers read from PostgreSQL.
func (p Phase) readsNew() bool { return p >= ReadNew }

// copiesWrites reports whether writes to the old store are marked and copied to PostgreSQL.
func (p Phase) copiesWrites() bool { return p >= DualWrite && p < PrimaryNew }

// holdsWriters reports whether the step holds writers until every acknowledged write is on both sides. It does so if reads begin to
// come from PostgreSQL, and if the primary changes.
func holdsWriters(from, to Phase) bool {
	return from.primaryIsNew() != to.primaryIsNew() || !from.readsNew() && to.readsNew()
}

// rollbackSteps returns the phases that a rollback passes through, the last of which is to. A process may be one step behind, so
// nothing may stop writing to a side from which a process in the phase before reads.
func rollbackSteps(from, to Phase) []Phase {
	var steps []Phase
	if from == PrimaryNew && to < PrimaryNew {
		steps, from = append(steps, ReadNew), ReadNew
	}
	if from == ReadNew && to == Off {
		steps, from = append(steps, DualWrite), DualWrite
	}
	if from != to || len(steps) == 0 {
		steps = append(steps, to)
	}
	return steps
}

// undo describes what can be undone in a phase.
func (p Phase) undo() string {
	switch p {
	case Off:
		return "Nothing has changed yet."
	case DualWrite, Backfill, Verify:
		return "Rollback to off stops the copies. The old store has every write; nothing reads PostgreSQL."
	case ShadowRead:
		return "Rollback to any earlier phase. The old store has every write; callers read from it."
	case ReadNew:
		return "Rollback moves the reads back to the old store, which has every write."
	case PrimaryNew:
		return "Rollback holds the writers until the old store has every write, and then makes it the primary again."
	default:
		return "Nothing can be undone: the old store gets no writes."
	}
}
