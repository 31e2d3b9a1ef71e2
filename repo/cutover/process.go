package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/txn"
)

// view is the state as this process has observed it.
type view struct {
	state

	// validUntil ends the lease by the clock of this process. It was taken before the state was read, so it is never later than
	// the end by the clock of PostgreSQL. Until then no step can be taken after the next one.
	validUntil time.Time
	// settled reports that every live process has observed the epoch. It stays true, because processes that join begin with it.
	settled bool
	// ahead is how much the clock of PostgreSQL is ahead of that of this process.
	ahead time.Duration
}

// now returns the time by the clock of PostgreSQL.
func (v *view) now() time.Time { return time.Now().Add(v.ahead) }

// poll reads the state, renews the lease and adopts the state. If the state is new it polls again, so others learn that this
// process has observed it. Concurrent calls are the callers' to avoid (see refresh).
func (m *Mover[V]) poll(ctx context.Context) error {
	for {
		before := m.view.Load()
		after, err := m.pollOnce(ctx, before)
		if errors.Is(err, pgx.ErrNoRows) { // the first process of all
			if err = m.createState(txn.Detach(ctx)); err == nil {
				continue
			}
		}
		if err != nil {
			return m.stateError("poll", err)
		}
		m.view.Store(after)
		if before != nil && before.epoch == after.epoch {
			break
		}
		m.logger.Info("phase observed", zap.Stringer("phase", after.phase), zap.Int64("epoch", after.epoch), zap.Bool("held", after.held))
	}
	return m.flushComparisons(ctx)
}

// pollOnce reads the state and reports the epoch of before as observed. It holds the step lock, shared, so every step that follows sees
// the lease.
func (m *Mover[V]) pollOnce(ctx context.Context, before *view) (*view, error) {
	var observed int64
	if before != nil {
		observed = before.epoch
	}
	after := &view{}
	err := m.inOwnTx(ctx, func(ctx context.Context) error {
		began := time.Now()
		s, err := m.enter(ctx, nil)
		if err != nil {
			return err
		}
		took := time.Since(began)
		after.state, after.validUntil, after.ahead = *s, began.Add(m.config.Lease), s.now.Sub(began.Add(took/2))
		return m.tx.QueryRow(ctx, `with lease as (
				insert into rdsfx_cutover_processes as p (name, id, host, pid, epoch, started, expires)
				values ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + make_interval(secs => $6))
				on conflict (name, id) do update set epoch = excluded.epoch, expires = excluded.expires
			)
			select not exists (select from rdsfx_cutover_processes
				where name = $1 and id <> $2 and expires > clock_timestamp() and epoch < $7)`,
			m.name, m.id, m.host, pid, observed, m.config.Lease.Seconds(), s.epoch).Scan(&after.settled)
	}, txn.ResolveCommit(txn.Unresolved))
	if err != nil {
		return nil, err
	}
	after.settled = after.settled && observed == after.epoch || before != nil && before.epoch == after.epoch && before.settled
	return after, nil
}

// refresh polls unless another goroutine has done so since the caller saw the view.
func (m *Mover[V]) refresh(ctx context.Context, seen *view) error {
	if !m.isRunning() {
		return ErrNotStarted
	}
	select {
	case m.polling <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-m.polling }()
	if m.view.Load() != seen {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.config.Lease)
	defer cancel()
	if err := m.poll(ctx); err != nil {
		return errors.Join(ErrStateUnknown, err)
	}
	return nil
}

// currentView returns the view of this process, which it reads if there is none yet.
func (m *Mover[V]) currentView(ctx context.Context) (*view, error) {
	for {
		if v := m.view.Load(); v != nil {
			if !m.isRunning() {
				return nil, ErrNotStarted
			}
			return v, nil
		}
		if err := m.refresh(ctx, nil); err != nil {
			return nil, err
		}
	}
}

// keepPolling polls, and undoes a step whose process has not finished it in time.
func (m *Mover[V]) keepPolling() func(context.Context) {
	logged := ""
	return func(ctx context.Context) {
		v := m.view.Load()
		if v != nil && v.phase == Done {
			return
		}
		err := m.refresh(ctx, v)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			logged = ""
		case err.Error() != logged:
			logged = err.Error()
			m.logger.Warn("cannot read the state of the cutover", zap.Error(err))
		}
		if v = m.view.Load(); v != nil && v.held && v.now().After(v.until) {
			m.undoAbandoned(ctx, &v.state)
		}
	}
}

// undoAbandoned undoes a step that holds the writers for longer than it may.
func (m *Mover[V]) undoAbandoned(ctx context.Context, held *state) {
	after, err := m.changeState(ctx, held, change{phase: held.phase}, nil)
	if err != nil {
		if !errors.Is(err, ErrStepLost) && ctx.Err() == nil {
			m.logger.Warn("cannot undo a step that holds the writers", zap.Error(err))
		}
		return
	}
	m.logger.Warn("undid a step whose process has not finished it", zap.Stringer("phase", after.phase), zap.Stringer("target", held.target))
	if _, err := m.old.Fence(ctx, after.epoch); err != nil && ctx.Err() == nil {
		m.logger.Warn("cannot raise the fence; the next writer will", zap.Error(err))
	}
}

// catchUp brings a writer up to date whose epoch the old store has refused, or whose primary PostgreSQL has refused.
func (m *Mover[V]) catchUp(ctx context.Context, v *view) error {
	if err := m.refresh(ctx, v); err != nil {
		return err
	}
	latest := m.view.Load()
	if latest.epoch != v.epoch || latest.phase.primaryIsNew() {
		return nil
	}
	// The process that took the step has not raised the fence yet, and may never do so. The state was read just now, so its epoch is
	// not that of a process which hung through a step.
	fence, err := m.old.Fence(ctx, latest.epoch)
	if err != nil {
		return fmt.Errorf("cutover: raise the fence: %w", err)
	}
	if fence <= latest.epoch {
		return nil
	}
	if err := m.refresh(ctx, latest); err != nil { // the fence may have been raised since the state was read
		return err
	}
	if latest = m.view.Load(); latest.epoch < fence {
		return fmt.Errorf("%w: the old store has epoch %d and the state %d; if PostgreSQL was restored from a backup, call Mover.Rollback to %s",
			ErrStateUnknown, fence, latest.epoch, latest.phase)
	}
	return nil
}

// wait waits for a short time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
