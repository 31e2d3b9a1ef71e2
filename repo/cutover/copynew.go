package cutover

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/txn"
)

// sync copies the present state of keys from the old store to PostgreSQL, while the old store is the primary. In these phases nothing
// else in this package writes to PostgreSQL. The order of calls doesn't matter, because each of them reads the keys under their
// locks. The keys differ.
//
// If PostgreSQL is the primary, it returns errOtherPrimary and copies nothing.
func (m *Mover[V]) sync(ctx context.Context, keys []string) error {
	return m.inOwnTx(ctx, func(ctx context.Context) error {
		s, err := m.enter(ctx, keys)
		if err != nil {
			return err
		}
		if s.phase.primaryIsNew() {
			return errOtherPrimary
		}
		entries, err := m.old.Get(ctx, keys...)
		if err != nil {
			return err
		}
		return m.new.Put(ctx, entries...)
	}, txn.ResolveCommit(txn.Unresolved)) // an unknown outcome is repaired as a failure is
}

// syncEach copies keys in one transaction, and one by one if that fails, so a key that can't be copied doesn't stop the others. It
// returns the keys that were not copied, with their errors.
func (m *Mover[V]) syncEach(ctx context.Context, keys []string) (failed []*KeyError, err error) {
	err = m.sync(ctx, keys)
	if err == nil || errors.Is(err, errOtherPrimary) || len(keys) == 1 || ctx.Err() != nil {
		if err != nil && len(keys) == 1 && !errors.Is(err, errOtherPrimary) {
			return []*KeyError{keyError(keys[0], err)}, nil
		}
		return nil, err
	}
	for _, key := range keys {
		switch err := m.sync(ctx, []string{key}); {
		case errors.Is(err, errOtherPrimary), ctx.Err() != nil:
			return failed, err
		case err != nil:
			failed = append(failed, keyError(key, err))
		}
	}
	return failed, nil
}

// repairMarks works off one page of the marks of the old store. It copies each key and then removes the marks that it has seen before
// the copy. It returns the cursor of the next page.
func (m *Mover[V]) repairMarks(ctx context.Context, cursor string) (next string, repaired int, failed []*KeyError, err error) {
	page, err := m.old.Marks(ctx, cursor, m.config.RepairBatch)
	if err != nil || len(page.Marks) == 0 {
		return page.Next, 0, nil, err
	}
	failed, err = m.syncEach(ctx, keysOf(page.Marks))
	if err != nil {
		return "", 0, failed, err
	}
	bad := make(map[string]bool, len(failed))
	for _, f := range failed {
		bad[f.Key] = true
	}
	done := make([]Mark, 0, len(page.Marks))
	for _, mark := range page.Marks {
		if !bad[mark.Key] {
			done = append(done, mark)
		}
	}
	if len(done) > 0 {
		err = m.old.RemoveMarks(ctx, done...)
	}
	return page.Next, len(done), failed, err
}

// keysOf returns the different keys of the marks.
func keysOf(marks []Mark) []string {
	keys := make([]string, 0, len(marks))
	seen := make(map[string]bool, len(marks))
	for _, mark := range marks {
		if !seen[mark.Key] {
			seen[mark.Key] = true
			keys = append(keys, mark.Key)
		}
	}
	return keys
}

// noteUnsynced logs that copies fail, at most once in 10 s.
func (m *Mover[V]) noteUnsynced(err error) {
	now := time.Now().UnixNano()
	last := m.unsyncedLogged.Load()
	if now-last > int64(10*time.Second) && m.unsyncedLogged.CompareAndSwap(last, now) {
		m.logger.Warn("cannot copy written keys to the other side; they stay in the repair log", zap.Error(err))
	}
}
