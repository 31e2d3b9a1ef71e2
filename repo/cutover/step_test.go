package cutover_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

func TestAdvance_WaitsForLiveProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := quick()
	c.Lease = time.Second // Advance waits for twice as long
	m := w.newMover(t, c)
	_, err := m.Status(t.Context()) // creates the state
	require.NoError(t, err)
	const join = `insert into rdsfx_cutover_processes values ('test', $1, 'host', 42, $2, now(), clock_timestamp() + $3::interval)`
	silent, dead := uuid.New(), uuid.New()
	_, err = w.tx.Exec(t.Context(), join, silent, 0, time.Hour)
	require.NoError(t, err)
	_, err = w.tx.Exec(t.Context(), join, dead, 1, -time.Second)
	require.NoError(t, err)

	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	late, ok := errors.AsType[*cutover.NotObservedError](err)
	require.True(t, ok, "%v", err)
	require.Len(t, late.Processes, 1)
	assert.Equal(t, 42, late.Processes[0].PID)
	require.ErrorContains(t, err, "host (pid 42, epoch 0)")

	_, err = w.tx.Exec(t.Context(), "update rdsfx_cutover_processes set epoch = 1 where id = $1", silent)
	require.NoError(t, err)
	result, err := m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.NoError(t, err)
	assert.Equal(t, cutover.DualWrite, result.To)
	require.Len(t, result.Fenced, 1, "a process whose lease has expired")
	assert.Equal(t, dead.String(), result.Fenced[0].ID)
}

func TestAdvance_OneOfSeveralOperatorsWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.newMover(t, quick())
	advanceTo(t, first, cutover.PrimaryNew)
	_, err := first.Rollback(t.Context(), cutover.ReadNew)
	require.NoError(t, err)
	for range 3 { // to PrimaryNew and Done, so at most two steps
		var taken atomic.Int64
		var all sync.WaitGroup
		before, err := first.Status(t.Context())
		require.NoError(t, err)
		for range 4 {
			m := w.newMover(t, quick())
			all.Go(func() {
				if _, err := m.Advance(t.Context(), cutover.AdvanceOptions{Force: true}); err == nil {
					taken.Add(1)
				}
			})
		}
		all.Wait()
		after, err := first.Status(t.Context())
		require.NoError(t, err)
		assert.Equal(t, taken.Load(), int64(after.Phase-before.Phase))
	}
}

func TestAdvance_ExplainsGates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	require.NoError(t, m.Store().Set(t.Context(), "a", "1", 0))
	advanceTo(t, m, cutover.Backfill)

	_, err := m.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
	gate, ok := errors.AsType[*cutover.GateError](err)
	require.True(t, ok, "force doesn't skip the backfill: %v", err)
	assert.Equal(t, cutover.Verify, gate.To)
	require.Len(t, gate.Failed, 1)
	assert.Equal(t, "backfill", gate.Failed[0].Name)
	require.ErrorContains(t, err, "call Backfill")

	advanceTo(t, m, cutover.Verify)
	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.ErrorContains(t, err, "verification: none, wanted")
	_, err = m.Verify(t.Context(), cutover.VerifyOptions{Sample: 0.5})
	require.NoError(t, err)
	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.ErrorContains(t, err, "verification: none, wanted", "a sample isn't enough")
	_, err = m.Verify(t.Context(), cutover.VerifyOptions{})
	require.NoError(t, err)
	result, err := m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.NoError(t, err)
	assert.Empty(t, result.Skipped)

	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.ErrorContains(t, err, "shadow reads: 0 compared, wanted 1000 in the last 10m")
	result, err = m.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
	require.NoError(t, err)
	assert.Equal(t, cutover.ReadNew, result.To)
	assert.Len(t, result.Skipped, 2, "time and number")
	history, err := m.History(t.Context())
	require.NoError(t, err)
	assert.True(t, history[0].Forced)
}

func TestAdvance_UndoesAStepThatCannotBeFinished(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	operator, writer := sc.slots[0].newMover(t, quick()), sc.slots[1].newMover(t, quick())
	startMover(t, writer)
	advanceTo(t, operator, cutover.ReadNew)
	broken := crossing(func(_ context.Context, point string) error {
		if point == "before Marks" {
			return errors.New("the old store is away")
		}
		return nil
	})
	sc.slots[0].old.cross.Store(&broken)

	_, err := operator.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
	require.ErrorContains(t, err, "the old store is away")
	require.ErrorContains(t, err, "the step was undone")
	require.NoError(t, writer.Store().Set(t.Context(), "a", "1", 0))
	st, err := writer.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, cutover.ReadNew, st.Phase)
	assert.Equal(t, st.Epoch, st.Fence)
	assert.Nil(t, st.HeldFor)
}

func TestAdvance_IsUndoneByOthersIfItsProcessDies(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	c := quick()
	c.Hold = 2 * time.Second
	operator, writer := sc.slots[0].newMover(t, c), sc.slots[1].newMover(t, c)
	startMover(t, writer)
	advanceTo(t, operator, cutover.ReadNew)
	isHeld := func() (held bool) {
		err := sc.tx.QueryRow(t.Context(), "select held_until is not null from rdsfx_cutovers").Scan(&held)
		assert.NoError(t, err) // another goroutine calls it too
		return held
	}
	held := make(chan struct{})
	var once sync.Once
	die := crossing(func(_ context.Context, point string) error {
		if point != "before Marks" || !isHeld() { // Advance has repaired before
			return nil
		}
		once.Do(func() {
			sc.slots[0].newProxy.RefuseNew()
			sc.slots[0].newProxy.ResetConnections()
			close(held)
		})
		return errKilled
	})
	sc.slots[0].old.cross.Store(&die)
	advanced := make(chan error, 1)
	go func() {
		_, err := operator.Advance(t.Context(), cutover.AdvanceOptions{Force: true})
		advanced <- err
	}()
	<-held

	require.NoError(t, writer.Store().Set(t.Context(), "a", "1", 0), "it waits until the step is undone")
	phase, _, stillHeld := writer.Observed()
	assert.Equal(t, cutover.ReadNew, phase)
	assert.False(t, stillHeld)
	assert.False(t, isHeld())
	require.ErrorContains(t, <-advanced, "undo the step, which another process does at ")
	sc.slots[0].old.cross.Store(nil)
	sc.slots[0].newProxy.Heal()
	advanceTo(t, writer, cutover.PrimaryNew)
	value, _, err := writer.Store().Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, "1", value)
}

func TestRollback_LosesNothingFromAnyPhase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	s := m.Store()
	for from := cutover.DualWrite; from < cutover.Done; from++ {
		to := cutover.Off
		if from%2 == 0 {
			to = from - 1
		}
		advanceTo(t, m, from)
		require.NoError(t, s.Set(t.Context(), from.String(), "kept", 0))
		require.NoError(t, s.Delete(t.Context(), (from-1).String()))
		result, err := m.Rollback(t.Context(), to)
		require.NoError(t, err)
		assert.Equal(t, to, result.To)
		assert.Equal(t, "kept", w.oldEntry(t, from.String()).Value)
		assert.False(t, w.oldEntry(t, (from-1).String()).Found)
		value, _, err := s.Get(t.Context(), from.String())
		require.NoError(t, err)
		assert.Equal(t, "kept", value)
	}
	_, err := m.Rollback(t.Context(), cutover.Off)
	require.NoError(t, err)
	// While the phase was Off, PostgreSQL has kept a key that was deleted meanwhile. The next backfill removes it.
	advanceTo(t, m, cutover.DualWrite)
	require.NoError(t, s.Set(t.Context(), "resurrected", "1", 0))
	_, err = m.Rollback(t.Context(), cutover.Off)
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), "resurrected"))
	assert.True(t, w.newEntry(t, "resurrected").Found)
	advanceTo(t, m, cutover.ReadNew)
	_, found, err := s.Get(t.Context(), "resurrected")
	require.NoError(t, err)
	assert.False(t, found)
}

func TestRollback_WaitsForTransactionsUnderWay(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	writer, operator := sc.slots[0].newMover(t, quick()), sc.slots[1].newMover(t, quick())
	startMover(t, writer)
	advanceTo(t, operator, cutover.PrimaryNew)
	require.NoError(t, writer.Store().Set(t.Context(), "a", "0", 0)) // it has observed the phase
	release := make(chan struct{})
	cross, stalled := stallOnce("after new Put", release)
	sc.slots[0].items.cross.Store(cross)
	written := make(chan error, 1)
	go func() { written <- writer.Store().Set(t.Context(), "a", "1", 0) }()
	<-stalled
	time.AfterFunc(100*time.Millisecond, func() { close(release) }) // the step must not be taken before

	_, err := operator.Rollback(t.Context(), cutover.ReadNew)
	require.NoError(t, err)
	require.NoError(t, <-written)
	assert.Equal(t, "1", sc.oldEntry(t, "a").Value)
}

func TestRollback_TakesAnEpochAheadOfTheOldStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	_, err := w.old.Fence(t.Context(), 100) // PostgreSQL was restored from a backup
	require.NoError(t, err)
	err = m.Store().Set(t.Context(), "a", "1", 0)
	require.ErrorIs(t, err, cutover.ErrStateUnknown)
	require.ErrorContains(t, err, "the old store has epoch 100 and the state 1")

	_, err = m.Rollback(t.Context(), cutover.Verify)
	require.ErrorContains(t, err, "rollback from off to verify: choose the present phase or an earlier one")
	result, err := m.Rollback(t.Context(), cutover.Off)
	require.NoError(t, err)
	assert.Equal(t, int64(101), result.Epoch)
	require.NoError(t, m.Store().Set(t.Context(), "a", "1", 0))
}

// newMover returns a mover of the slot.
func (s *slot) newMover(tb testing.TB, c config) *mover {
	tb.Helper()
	m, err := cutover.NewMover(s.tx, "test", cutover.Old[string](s.old), cutover.New[string](s.items), c)
	require.NoError(tb, err)
	return m
}

func TestAdvance_LateCopiesDoNotOverwriteTheNewPrimary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	advanceTo(t, m, cutover.PrimaryNew)
	require.NoError(t, m.Store().Set(t.Context(), "only new", "1", 0))
	old := entry{Key: "only new", Found: true, Value: "stale"}
	_, epoch, _ := m.Observed()
	require.NoError(t, w.old.Write(t.Context(), cutover.Write[string]{Entry: old, Epoch: epoch}))
	require.ErrorIs(t, m.Sync(t.Context(), "only new"), cutover.ErrOtherPrimary)
	assert.Equal(t, "1", w.newEntry(t, "only new").Value)
}
