package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Store reads and writes keys on the sides that the phase requires. The application uses it in place of its old store, for all keys of
// the cutover. It is safe for concurrent use.
//
// In the phases before PrimaryNew a write takes effect at once, even if ctx carries a transaction, and is not rolled back with it. From
// PrimaryNew on a write joins the transaction that ctx carries.
type Store[V any] struct{ m *Mover[V] }

// Get returns the value of a key, and whether the key exists.
func (s *Store[V]) Get(ctx context.Context, key string) (value V, found bool, err error) {
	entries, err := s.GetMany(ctx, key)
	if err != nil {
		return value, false, err
	}
	return entries[0].Value, entries[0].Found, nil
}

// GetMany returns the state of each key, in the order of the keys. It reads one side: the old store before ReadNew, and PostgreSQL
// from then on. If PostgreSQL can't be reached, the process continues to read from the old store as long as no step was taken.
// Otherwise the error is [ErrStateUnknown].
func (s *Store[V]) GetMany(ctx context.Context, keys ...string) ([]Entry[V], error) {
	for {
		v, err := s.m.currentView(ctx)
		if err != nil {
			return nil, err
		}
		entries, err := s.m.read(ctx, v, keys)
		if err != nil {
			return nil, fmt.Errorf("cutover: %s: read: %w", s.m.name, err)
		}
		current, err := s.m.isCurrent(ctx, v)
		if err != nil {
			return nil, err
		}
		if current {
			s.m.shadowRead(v, entries)
			return entries, nil
		}
	}
}

// read reads the keys on the side that the view requires.
func (m *Mover[V]) read(ctx context.Context, v *view, keys []string) ([]Entry[V], error) {
	if !v.phase.readsNew() {
		return m.old.Get(ctx, keys...)
	}
	entries, err := m.new.Get(ctx, keys...)
	for i := range entries {
		entries[i] = entries[i].live(v.now())
	}
	return entries, err
}

// live returns the entry, or an absent one if it has expired.
func (e Entry[V]) live(now time.Time) Entry[V] {
	if e.Found && !e.Expires.IsZero() && !e.Expires.After(now) {
		return Entry[V]{Key: e.Key}
	}
	return e
}

// isCurrent reports whether what was read by this view is still valid: this process is not more than one step behind. Otherwise it
// reads the state again. It is called after the read, because the process may have been frozen before or during it.
func (m *Mover[V]) isCurrent(ctx context.Context, v *view) (bool, error) {
	latest := m.view.Load()
	if latest.epoch != v.epoch {
		return false, nil
	}
	if time.Now().Before(latest.validUntil) || v.phase == Done {
		return true, nil
	}
	if !v.phase.readsNew() {
		// If PostgreSQL is away, the lease can't be renewed. A step to PrimaryNew raises the fence before it is committed. So the
		// old store is still the primary if its fence has the epoch of this process.
		if fence, err := m.old.Fence(ctx, 0); err == nil && fence == v.epoch {
			return true, nil
		}
	}
	if err := m.refresh(ctx, latest); err != nil {
		return false, err
	}
	latest = m.view.Load()
	return latest.epoch == v.epoch && time.Now().Before(latest.validUntil), nil
}

// Set stores a value. With a positive ttl the key expires after that time. The resolution is 1 ms.
//
// A nil error means that the primary has the write, and that every later read of any process returns it or a later one. Before
// PrimaryNew the primary is the old store. If only the copy in PostgreSQL fails, Set returns nil as long as no process reads from
// there, and an [*UnsyncedError] otherwise. [ErrHeld] and [ErrStateUnknown] mean that the write was not applied. After any other
// error it may have been applied or not, and may still be applied later.
func (s *Store[V]) Set(ctx context.Context, key string, value V, ttl time.Duration) error {
	return s.m.write(ctx, Entry[V]{Key: key, Found: true, Value: value}, ttl)
}

// Delete deletes a key. It is no error if the key doesn't exist. Errors are those of [Store.Set].
func (s *Store[V]) Delete(ctx context.Context, key string) error {
	return s.m.write(ctx, Entry[V]{Key: key}, 0)
}

// Update changes a key depending on its state. It calls fn with the present state and stores the state that fn returns: the value, or
// nothing if Found is false. To keep the expiry, return it. No other write of the key comes in between. fn may be called several
// times. If fn returns an error, Update returns that error and stores nothing. Other errors are those of [Store.Set].
//
// Before PrimaryNew, the old store must implement [OldUpdater].
func (s *Store[V]) Update(ctx context.Context, key string, fn func(Entry[V]) (Entry[V], error)) error {
	m := s.m
	return m.onPrimary(ctx, func(ctx context.Context, v *view) error {
		if v.phase.primaryIsNew() {
			return m.updateNew(ctx, key, true, fn)
		}
		updater, ok := m.old.(OldUpdater[V])
		if !ok {
			return fmt.Errorf("cutover: %s: the old store has no Update: use Set", m.name)
		}
		mark := m.newMark(v)
		err := updater.Update(ctx, key, func(before Entry[V]) (Write[V], error) {
			after, err := fn(before)
			after.Key = key
			return Write[V]{Entry: after, Epoch: v.epoch, Mark: mark}, err
		})
		if err != nil {
			return err
		}
		return m.copyWritten(ctx, v, key, mark)
	})
}

// write stores an entry on the primary and copies the key to the other side.
func (m *Mover[V]) write(ctx context.Context, entry Entry[V], ttl time.Duration) error {
	return m.onPrimary(ctx, func(ctx context.Context, v *view) error {
		if v.phase.primaryIsNew() {
			return m.updateNew(ctx, entry.Key, false, func(Entry[V]) (Entry[V], error) {
				if ttl > 0 {
					entry.Expires = v.now().Add(ttl).Truncate(time.Millisecond)
				}
				return entry, nil
			})
		}
		mark := m.newMark(v)
		if err := m.old.Write(ctx, Write[V]{Entry: entry, TTL: ttl, Epoch: v.epoch, Mark: mark}); err != nil {
			return err
		}
		return m.copyWritten(ctx, v, entry.Key, mark)
	})
}

// newMark returns the ID of the mark for a write, empty if the phase copies no writes.
func (m *Mover[V]) newMark(v *view) string {
	if !v.phase.copiesWrites() {
		return ""
	}
	return uuid.NewString()
}

// copyWritten copies a key to PostgreSQL after it was written to the old store, and removes the mark. If that fails, the mark stays, and
// the key is repaired later.
func (m *Mover[V]) copyWritten(ctx context.Context, v *view, key, mark string) error {
	if mark == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.config.CopyTimeout)
	defer cancel()
	err := m.sync(ctx, []string{key})
	if errors.Is(err, errOtherPrimary) {
		// A step has made PostgreSQL the primary since. It has copied every marked key before that.
		err = nil
	}
	if err == nil {
		_ = m.old.RemoveMarks(ctx, Mark{ID: mark, Key: key}) // a mark that stays is repaired once more, which changes nothing
		return nil
	}
	if latest := m.view.Load(); latest.epoch == v.epoch && !v.phase.readsNew() && (latest.settled || !v.readsAreMixed()) {
		m.noteUnsynced(err)
		return nil
	}
	return &UnsyncedError{Key: key, Cause: err}
}

const (
	heldPause   = 20 * time.Millisecond // between two reads of the state while writers are held
	fencedPause = 5 * time.Millisecond  // between two attempts of a writer that was refused again
	maxHeld     = 30 * time.Second      // longest wait of a writer whose ctx has no deadline
)

// onPrimary calls fn with the present view, again if the step to another phase has come in between. It waits while writers are held.
func (m *Mover[V]) onPrimary(ctx context.Context, fn func(ctx context.Context, v *view) error) error {
	began := time.Now()
	for {
		v, err := m.currentView(ctx)
		if err != nil {
			return err
		}
		pause := fencedPause
		if v.held {
			pause = heldPause
		} else {
			err = fn(ctx, v)
			if !errors.Is(err, ErrFenced) && !errors.Is(err, errOtherPrimary) && !errors.Is(err, ErrChanged) {
				return m.writeError(err)
			}
		}
		if time.Since(began) > maxHeld || ctx.Err() != nil {
			return errors.Join(ErrHeld, err, ctx.Err())
		}
		if errors.Is(err, ErrChanged) {
			continue
		}
		if err := m.catchUp(ctx, v); err != nil {
			return err
		}
		if latest := m.view.Load(); latest.epoch == v.epoch {
			if err := wait(ctx, pause); err != nil {
				return errors.Join(ErrHeld, err)
			}
		}
	}
}

// writeError adds the name of the cutover to an error of a store.
func (m *Mover[V]) writeError(err error) error {
	var unsynced *UnsyncedError
	if err == nil || errors.As(err, &unsynced) {
		return err
	}
	return fmt.Errorf("cutover: %s: write: %w", m.name, err)
}
