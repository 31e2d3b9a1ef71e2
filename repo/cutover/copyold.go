package cutover

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// updateNew changes a key in PostgreSQL, which is the primary, and adds a row to the repair log. Then it copies the key to the old store.
// fn gets the present state if reads is true. If ctx carries a transaction, it joins that, in a savepoint, and copies after the commit.
func (m *Mover[V]) updateNew(ctx context.Context, key string, reads bool, fn func(Entry[V]) (Entry[V], error)) error {
	if _, joins := m.tx.Tx(ctx); joins {
		return m.tx.Do(ctx, func(ctx context.Context) error {
			c, err := m.changeNew(ctx, key, reads, fn)
			if err != nil || c == nil {
				return err
			}
			return txn.AfterCommit(ctx, func(ctx context.Context) { m.copyBackWritten(ctx, *c) })
		}, txn.Nested())
	}
	var written *Copy[V]
	err := m.tx.Do(ctx, func(ctx context.Context) (err error) {
		written, err = m.changeNew(ctx, key, reads, fn)
		return err
	}, txn.Isolation(pgx.ReadCommitted), txn.LockTimeout(m.config.Hold), txn.IdleTimeout(m.config.Lease))
	if err == nil && written != nil {
		m.copyBackWritten(ctx, *written)
	}
	return err
}

// changeNew changes a key in the transaction of ctx. It returns the copy that the old store must get, nil if it needs none.
func (m *Mover[V]) changeNew(ctx context.Context, key string, reads bool, fn func(Entry[V]) (Entry[V], error)) (*Copy[V], error) {
	s, err := m.enter(ctx, []string{key})
	if err != nil {
		return nil, err
	}
	if !s.phase.primaryIsNew() || s.held {
		return nil, errOtherPrimary
	}
	before := Entry[V]{Key: key}
	if reads {
		entries, err := m.new.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		before = entries[0].live(s.now)
	}
	after, err := fn(before)
	if err != nil {
		return nil, err
	}
	after.Key = key
	if checker, ok := m.old.(OldChecker[V]); ok && s.phase != Done {
		if err := checker.CheckEntry(after); err != nil {
			return nil, keyError(key, err)
		}
	}
	if err := m.new.Put(ctx, after); err != nil || s.phase == Done {
		return nil, err
	}
	c := &Copy[V]{Entry: after, Epoch: s.epoch}
	err = m.tx.QueryRow(ctx, `insert into rdsfx_cutover_repairs as r (name, key, version, since)
		values ($1, $2, nextval('rdsfx_cutover_version'), clock_timestamp())
		on conflict (name, key) do update set version = excluded.version returning version`, m.name, key).Scan(&c.Version)
	return c, err //nolint:wrapcheck // the caller wraps it
}

// copyBackWritten copies a key to the old store after it was written to PostgreSQL. If that fails, the repair log has the key. The old
// store ignores versions that are not later than its own, so the order of copies doesn't matter.
func (m *Mover[V]) copyBackWritten(ctx context.Context, c Copy[V]) {
	ctx, cancel := context.WithTimeout(ctx, m.config.CopyTimeout)
	defer cancel()
	err := m.old.Copy(ctx, c)
	if err == nil {
		err = m.removeRepairs(ctx, []Copy[V]{c})
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		m.noteUnsynced(err)
	}
}

// removeRepairs deletes the rows of the repair log for copies that the old store has, unless a later write has replaced them.
func (m *Mover[V]) removeRepairs(ctx context.Context, copies []Copy[V]) error {
	keys, versions := make([]string, len(copies)), make([]int64, len(copies))
	for i, c := range copies {
		keys[i], versions[i] = c.Key, c.Version
	}
	_, err := m.tx.Exec(txn.Detach(ctx), `delete from rdsfx_cutover_repairs as r using unnest($2::text[], $3::bigint[]) as done (key, version)
		where r.name = $1 and r.key = done.key and r.version = done.version`, m.name, keys, versions)
	return m.stateError("shorten the repair log", err)
}

// repairRows works off up to a batch of the rows of the repair log whose keys come after the given one. Rows and values are read from one
// snapshot, so a value belongs to its version. It returns the last key, empty if there are no more rows.
func (m *Mover[V]) repairRows(ctx context.Context, after string) (last string, repaired int, failed []*KeyError, err error) {
	copies, err := m.pendingCopies(ctx, after)
	if err != nil || len(copies) == 0 {
		return "", 0, nil, err
	}
	done := make([]Copy[V], 0, len(copies))
	for _, c := range copies {
		switch err := m.old.Copy(ctx, c); {
		case errors.Is(err, ErrFenced), ctx.Err() != nil:
			return "", 0, failed, err
		case err != nil:
			failed = append(failed, keyError(c.Key, err))
		default:
			done = append(done, c)
		}
	}
	return copies[len(copies)-1].Key, len(done), failed, m.removeRepairs(ctx, done)
}

// pendingCopies returns the copies of a batch of the repair log, in the order of the keys.
func (m *Mover[V]) pendingCopies(ctx context.Context, after string) (copies []Copy[V], err error) {
	err = m.tx.Do(ctx, func(ctx context.Context) error {
		s, err := scanState(m.tx.QueryRow(ctx, selectState, m.name))
		if err != nil {
			return err
		}
		if s.phase != PrimaryNew {
			return errOtherPrimary
		}
		rows, err := m.tx.Query(ctx, "select key, version from rdsfx_cutover_repairs where name = $1 and key > $2 order by key limit $3",
			m.name, after, m.config.RepairBatch)
		if err != nil {
			return err
		}
		copies, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Copy[V], err error) {
			c.Epoch = s.epoch
			return c, row.Scan(&c.Key, &c.Version)
		})
		if err != nil || len(copies) == 0 {
			return err //nolint:wrapcheck // wrapped below
		}
		keys := make([]string, len(copies))
		for i := range copies {
			keys[i] = copies[i].Key
		}
		entries, err := m.new.Get(ctx, keys...)
		for i := range entries {
			copies[i].Entry = entries[i]
		}
		return err
	}, txn.RequiresNew(), txn.RepeatableRead(), txn.ReadOnly())
	if err != nil {
		return nil, fmt.Errorf("read the repair log: %w", err)
	}
	return copies, nil
}
