package cutover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// MismatchKind classifies a key whose states differ on the two sides.
type MismatchKind string

const (
	// Missing keys are in the old store and not in PostgreSQL.
	Missing MismatchKind = "missing"
	// Extra keys are in PostgreSQL and not in the old store.
	Extra MismatchKind = "extra"
	// Different keys have other values or expiries.
	Different MismatchKind = "different"
	// Expired keys differ only because one side has already expired, within Config.ExpiryTolerance. They do no harm.
	Expired MismatchKind = "expired"
	// Raced keys were being written: they are equal at a second comparison, or the repair log has them. They do no harm.
	Raced MismatchKind = "raced"
)

// Mismatch is a key whose states differ.
type Mismatch struct {
	Key  string       `json:"key"`
	Kind MismatchKind `json:"kind"`
}

// MismatchCounts counts comparisons and mismatches.
type MismatchCounts struct {
	// Compared is the number of comparisons of keys.
	Compared  int64 `json:"compared"`
	Missing   int64 `json:"missing"`
	Extra     int64 `json:"extra"`
	Different int64 `json:"different"`
	Expired   int64 `json:"expired"`
	Raced     int64 `json:"raced"`
}

// Mismatches returns the number of those that do harm: missing, extra and different keys.
func (c *MismatchCounts) Mismatches() int64 { return c.Missing + c.Extra + c.Different }

func (c *MismatchCounts) add(kind MismatchKind) {
	switch kind {
	case Missing:
		c.Missing++
	case Extra:
		c.Extra++
	case Different:
		c.Different++
	case Expired:
		c.Expired++
	case Raced:
		c.Raced++
	}
}

// compare compares the states of a key. If equal is false, kind is how they differ.
func (m *Mover[V]) compare(old, copied Entry[V], now time.Time) (kind MismatchKind, equal bool, err error) {
	if !old.Found && !copied.Found {
		return "", true, nil
	}
	if old.Found != copied.Found {
		present, kind := old, Missing
		if copied.Found {
			present, kind = copied, Extra
		}
		if m.expiresAbout(present.Expires, now) {
			kind = Expired
		}
		return kind, false, nil
	}
	difference := old.Expires.Sub(copied.Expires).Abs()
	if old.Expires.IsZero() != copied.Expires.IsZero() || difference > m.config.ExpiryTolerance {
		return Different, false, nil
	}
	a, err := m.config.Canonical(old.Value)
	if err != nil {
		return "", false, &KeyError{Key: old.Key, Cause: err}
	}
	b, err := m.config.Canonical(copied.Value)
	if err != nil {
		return "", false, &KeyError{Key: old.Key, Cause: err}
	}
	return Different, bytes.Equal(a, b), nil
}

// expiresAbout reports whether an expiry has passed or is about to.
func (m *Mover[V]) expiresAbout(expires, now time.Time) bool {
	return !expires.IsZero() && !expires.After(now.Add(m.config.ExpiryTolerance))
}

// errNotCompared reports that the phase has nothing to compare.
var errNotCompared = errors.New("the sides are only compared from dual_write to primary_new")

// compareLocked compares keys that have differed, under their locks. Nothing copies these keys meanwhile, so a key whose states differ
// must be in the repair log. If it isn't, the difference is real. Keys that are equal now have raced.
//
// The order of the reads matters. The repair log of the old store gets its entry with the write. It loses the entry only after a copy,
// which needs the lock, so it is read last. That of PostgreSQL gets its entry under the lock and may lose it without, so it is read
// before the old store.
func (m *Mover[V]) compareLocked(ctx context.Context, keys []string) (found []Mismatch, err error) {
	err = m.inOwnTx(ctx, func(ctx context.Context) error {
		s, err := m.enter(ctx, keys)
		if err != nil {
			return err
		}
		if !s.phase.copiesWrites() && s.phase != PrimaryNew {
			return errNotCompared
		}
		copied, err := m.new.Get(ctx, keys...)
		if err != nil {
			return err
		}
		var pending map[string]bool
		if s.phase.primaryIsNew() {
			if pending, err = m.keysInRows(ctx, keys); err != nil {
				return err
			}
		}
		old, err := m.old.Get(ctx, keys...)
		if err != nil {
			return err
		}
		if !s.phase.primaryIsNew() {
			if pending, err = m.keysInMarks(ctx, keys); err != nil {
				return err
			}
		}
		found, err = m.classify(old, copied, pending, s.now)
		return err
	}, txn.ResolveCommit(txn.Unresolved))
	return found, err
}

// classify classifies keys that have differed, from their states and the set of those that are in the repair log.
func (m *Mover[V]) classify(old, copied []Entry[V], pending map[string]bool, now time.Time) ([]Mismatch, error) {
	found := make([]Mismatch, len(old))
	for i := range old {
		kind, equal, err := m.compare(old[i].live(now), copied[i].live(now), now)
		if err != nil {
			return nil, err
		}
		if equal || kind != Expired && pending[old[i].Key] {
			kind = Raced
		}
		found[i] = Mismatch{old[i].Key, kind}
	}
	return found, nil
}

// keysInRows returns those of the keys that the repair log in PostgreSQL has.
func (m *Mover[V]) keysInRows(ctx context.Context, keys []string) (map[string]bool, error) {
	rows, err := m.tx.Query(ctx, "select key from rdsfx_cutover_repairs where name = $1 and key = any($2)", m.name, keys)
	if err != nil {
		return nil, err
	}
	listed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, m.stateError("read the repair log", err)
	}
	in := make(map[string]bool, len(listed))
	for _, key := range listed {
		in[key] = true
	}
	return in, nil
}

// maxMarksCompared is the length of the repair log above which keys can't be compared.
const maxMarksCompared = 100_000

// keysInMarks returns those of the keys that the repair log of the old store has.
func (m *Mover[V]) keysInMarks(ctx context.Context, keys []string) (map[string]bool, error) {
	wanted := make(map[string]bool, len(keys))
	for _, key := range keys {
		wanted[key] = true
	}
	in := make(map[string]bool)
	seen := 0
	for cursor, first := "", true; first || cursor != ""; first = false {
		page, err := m.old.Marks(ctx, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, mark := range page.Marks {
			if wanted[mark.Key] {
				in[mark.Key] = true
			}
		}
		if seen += len(page.Marks); seen > maxMarksCompared {
			return nil, fmt.Errorf("the repair log has more than %d entries: repair first", maxMarksCompared)
		}
		cursor = page.Next
	}
	return in, nil
}
