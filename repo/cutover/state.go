package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// state is the row of a cutover.
type state struct {
	phase    Phase
	previous Phase // before the last step
	percent  float64
	epoch    int64
	step     uuid.UUID // identifies the last change
	held     bool      // writers wait, because the step to target is under way
	target   Phase
	until    time.Time // when the step to target is undone
	era      int64     // the epoch at which DualWrite was last entered from Off
	changed  time.Time
	now      time.Time // by the clock of PostgreSQL
}

const selectState = `select phase, previous, shadow_percent, epoch, step, target, held_until, era, changed, clock_timestamp()
	from rdsfx_cutovers where name = $1`

func scanState(row pgx.Row) (*state, error) {
	var (
		s               state
		phase, previous string
		target          *string
		until           *time.Time
	)
	err := row.Scan(&phase, &previous, &s.percent, &s.epoch, &s.step, &target, &until, &s.era, &s.changed, &s.now)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller wraps it
	}
	var errs [3]error
	s.phase, errs[0] = ParsePhase(phase)
	s.previous, errs[1] = ParsePhase(previous)
	if target != nil && until != nil {
		s.held, s.until = true, *until
		s.target, errs[2] = ParsePhase(*target)
	}
	return &s, errors.Join(errs[:]...)
}

// readsAreMixed reports whether a process that is one step behind may read from PostgreSQL while this phase reads from the old store.
func (s *state) readsAreMixed() bool { return s.previous.readsNew() && !s.phase.readsNew() }

// createState inserts the row of the cutover unless it exists.
func (m *Mover[V]) createState(ctx context.Context) error {
	_, err := m.tx.Exec(ctx, `insert into rdsfx_cutovers (name, phase, previous, shadow_percent, epoch, step, era, changed)
		values ($1, $2, $2, 0, 1, $3, 0, clock_timestamp()) on conflict do nothing`, m.name, Off.String(), uuid.New())
	return m.stateError("create the state", err)
}

// loadState reads the state outside any transaction of the caller.
func (m *Mover[V]) loadState(ctx context.Context) (s *state, err error) {
	err = m.inOwnTx(ctx, func(ctx context.Context) error {
		s, err = scanState(m.tx.QueryRow(ctx, selectState, m.name))
		return err
	}, txn.ReadOnly())
	if errors.Is(err, pgx.ErrNoRows) {
		if err = m.createState(txn.Detach(ctx)); err == nil {
			return m.loadState(ctx)
		}
		return nil, err
	}
	return s, m.stateError("read the state", err)
}

// inOwnTx calls fn in a transaction of this package, whatever transaction ctx carries. It is read committed: a statement that
// follows a lock sees what the previous holder of the lock has committed.
func (m *Mover[V]) inOwnTx(ctx context.Context, fn func(ctx context.Context) error, opts ...txn.Option) error {
	return m.tx.Do(ctx, fn, append([]txn.Option{
		txn.RequiresNew(), txn.Isolation(pgx.ReadCommitted), txn.LockTimeout(m.config.Hold), txn.IdleTimeout(m.config.Lease),
	}, opts...)...)
}

// The locks of a cutover are advisory locks of transactions (see txn.LockKey):
//   - The step lock. Transactions whose correctness depends on the phase hold it shared. A step holds it alone, so it waits for them,
//     and later ones see its phase.
//   - A lock for each key. Transactions that write a key in PostgreSQL hold it.

func (m *Mover[V]) stepLock() int64 { return txn.LockKey("rdsfx cutover " + m.name) }

func (m *Mover[V]) keyLocks(keys []string) []int64 {
	locks := make([]int64, len(keys))
	for i, key := range keys {
		locks[i] = txn.LockKey(fmt.Sprintf("rdsfx cutover %q %q", m.name, key))
	}
	slices.Sort(locks) // so concurrent calls don't deadlock
	return locks
}

// enter acquires the step lock, shared, and the locks of the keys in the transaction of ctx, and returns the state. The transaction
// may be one of the application, above read committed. Its snapshot may then be older than a step that was taken meanwhile. So the
// row is locked as well, and PostgreSQL reports a serialization failure if it has changed since.
func (m *Mover[V]) enter(ctx context.Context, keys []string) (s *state, err error) {
	batch := &pgx.Batch{}
	batch.Queue("select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off'")
	batch.Queue("select pg_advisory_xact_lock_shared($1)", m.stepLock())
	if len(keys) > 0 {
		batch.Queue("select pg_advisory_xact_lock(key) from unnest($1::bigint[]) as key", m.keyLocks(keys))
	}
	batch.Queue(`select from rdsfx_cutovers where name = $1 and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
		for share`, m.name)
	batch.Queue(selectState, m.name).QueryRow(func(row pgx.Row) error {
		s, err = scanState(row)
		return err
	})
	return s, m.tx.SendBatch(ctx, batch).Close() //nolint:wrapcheck // the caller wraps it
}

// change is a change of the state by a step.
type change struct {
	phase   Phase
	target  *Phase        // hold writers for the step to this phase
	hold    time.Duration // for how long
	atLeast int64         // the new epoch is at least this, if it is higher than the next
	forced  bool
}

// changeState replaces the state if its epoch is still that of before, and returns the new one. check runs under the step lock, so
// what it finds holds until the change is committed.
func (m *Mover[V]) changeState(ctx context.Context, before *state, c change, check func(ctx context.Context) error) (*state, error) {
	after := *before
	after.step = uuid.New()
	err := m.inOwnTx(ctx, func(ctx context.Context) error {
		if _, err := m.tx.Exec(ctx, "select pg_advisory_xact_lock($1)", m.stepLock()); err != nil {
			return err
		}
		if check != nil {
			if err := check(ctx); err != nil {
				return err
			}
		}
		return m.updateState(ctx, before, &after, c)
	})
	if errors.Is(err, txn.ErrOutcomeUnknown) {
		loadCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if found, loadErr := m.loadState(loadCtx); loadErr == nil && found.step == after.step {
			err = nil
		}
	}
	if err != nil {
		return nil, m.stateError(fmt.Sprintf("step from %s to %s", before.phase, c.phase), err)
	}
	return &after, nil
}

// updateState updates the row from before to after, which it completes.
func (m *Mover[V]) updateState(ctx context.Context, before, after *state, c change) error {
	after.phase, after.epoch = c.phase, max(before.epoch+1, c.atLeast)
	var target *string
	after.held, after.target = c.target != nil, 0
	if c.target != nil {
		after.target = *c.target
		name := c.target.String()
		target = &name
	}
	if c.phase != before.phase {
		after.previous = before.phase
	}
	if before.phase == Off && c.phase != Off {
		after.era = after.epoch
	}
	err := m.tx.QueryRow(ctx, `update rdsfx_cutovers set phase = $3, previous = $4, epoch = $5, step = $6, target = $7,
			held_until = case when $7::text is null then null else clock_timestamp() + make_interval(secs => $8) end,
			era = $9, changed = case when phase = $3 then changed else clock_timestamp() end
		where name = $1 and epoch = $2 returning changed, coalesce(held_until, clock_timestamp()), clock_timestamp()`,
		m.name, before.epoch, after.phase.String(), after.previous.String(), after.epoch, after.step, target, c.hold.Seconds(), after.era).
		Scan(&after.changed, &after.until, &after.now)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrStepLost
	}
	if err != nil || after.held {
		return err //nolint:wrapcheck // the caller wraps it
	}
	_, err = m.tx.Exec(ctx, `insert into rdsfx_cutover_steps (name, epoch, phase, forced, host, at)
		values ($1, $2, $3, $4, $5, clock_timestamp())`, m.name, after.epoch, after.phase.String(), c.forced, m.host)
	return err
}
