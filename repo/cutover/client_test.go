package cutover_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/txn"
)

// stallOnce returns a crossing that stalls the first call at a point until release is closed, and a channel that is closed when it does.
func stallOnce(at string, release <-chan struct{}) (cross *crossing, stalled <-chan struct{}) {
	reached, first := make(chan struct{}), make(chan struct{}, 1)
	first <- struct{}{}
	fn := crossing(func(_ context.Context, point string) error {
		if point != at {
			return nil
		}
		select {
		case <-first:
			close(reached)
			<-release
		default:
		}
		return nil
	})
	return &fn, reached
}

func TestStore_ProcessThatHungThroughTheCutover(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"before Write", "after Write", "before Get", "before new Put", "after new Put", "before RemoveMarks"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			c := quick()
			c.Lease = 2 * time.Second // the server ends the transactions of the hung process after it
			hung, other := sc.slots[0].newMover(t, c), sc.slots[1].newMover(t, quick())
			startMover(t, hung)
			advanceTo(t, other, cutover.ReadNew)
			require.NoError(t, hung.Store().Set(t.Context(), "a", "0", 0)) // it has observed the phase

			release := make(chan struct{})
			cross, stalled := stallOnce(point, release)
			sc.slots[0].old.cross.Store(cross)
			sc.slots[0].items.cross.Store(cross)
			result := make(chan error, 1)
			go func() { result <- hung.Store().Set(t.Context(), "a", "1", 0) }()
			<-stalled
			resume := hung.HoldPolling()
			require.NoError(t, hung.ExpireLease(t.Context()))
			startMover(t, other)
			advanceTo(t, other, cutover.PrimaryNew)
			require.NoError(t, other.Store().Set(t.Context(), "a", "2", 0))

			close(release)
			time.AfterFunc(50*time.Millisecond, resume) // the hung process may have to read the state first
			if err := <-result; err != nil {            // its session was ended, but the old store had the write
				require.ErrorAs(t, err, new(*cutover.UnsyncedError))
			}
			expected := "2"
			if point == "before Write" { // refused, and repeated on PostgreSQL
				expected = "1"
			}
			value, _, getErr := other.Store().Get(t.Context(), "a")
			require.NoError(t, getErr)
			assert.Equal(t, expected, value)
			require.Eventually(t, func() bool { return sc.oldEntry(t, "a").Value == expected }, waitTimeout, time.Millisecond)
		})
	}
}

func TestStore_ProcessThatMissedARollback(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	hung, other := sc.slots[0].newMover(t, quick()), sc.slots[1].newMover(t, quick())
	startMover(t, hung)
	startMover(t, other)
	advanceTo(t, other, cutover.PrimaryNew)
	require.NoError(t, hung.Store().Set(t.Context(), "a", "1", 0)) // it has observed the phase
	resume := hung.HoldPolling()
	require.NoError(t, hung.ExpireLease(t.Context()))
	_, err := other.Rollback(t.Context(), cutover.ReadNew)
	require.NoError(t, err)
	require.NoError(t, other.Store().Set(t.Context(), "a", "2", 0))
	fail := crossing(func(_ context.Context, point string) error {
		if point == "before Copy" {
			return errKilled
		}
		return nil
	})
	sc.slots[0].old.cross.Store(&fail)
	result := make(chan error, 1)
	go func() { result <- hung.Store().Set(t.Context(), "a", "3", 0) }()
	var resumed sync.Once
	defer resumed.Do(resume)
	time.AfterFunc(50*time.Millisecond, func() { resumed.Do(resume) }) // until then it waits for the state
	require.NoError(t, <-result)
	assert.Equal(t, "3", sc.oldEntry(t, "a").Value, "an acknowledged write")
}

func TestStore_ProcessThatHungReadsNothingStale(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	c := quick()
	c.Repair = time.Hour // which copies a key whose mark was just being removed
	hung, other := sc.slots[0].newMover(t, c), sc.slots[1].newMover(t, c)
	startMover(t, hung)
	startMover(t, other)
	advanceTo(t, other, cutover.ReadNew)
	require.NoError(t, hung.Store().Set(t.Context(), "a", "1", 0)) // it has observed the phase
	resume := hung.HoldPolling()
	require.NoError(t, hung.ExpireLease(t.Context()))
	_, err := other.Rollback(t.Context(), cutover.Off)
	require.NoError(t, err)
	require.NoError(t, other.Store().Set(t.Context(), "a", "2", 0))
	require.Equal(t, "1", sc.newEntry(t, "a").Value, "PostgreSQL gets no writes any more")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = hung.Store().Get(ctx, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded, "it can't read the state")
	resume()
	value, _, err := hung.Store().Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, "2", value)
}

func TestStore_StaleCopyBackIsIgnored(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	slow, other := sc.slots[0].newMover(t, quick()), sc.slots[1].newMover(t, quick())
	startMover(t, slow)
	startMover(t, other)
	advanceTo(t, other, cutover.PrimaryNew)
	release := make(chan struct{})
	cross, stalled := stallOnce("before Copy", release)
	sc.slots[0].old.cross.Store(cross)
	result := make(chan error, 1)
	go func() { result <- slow.Store().Set(t.Context(), "a", "1", 0) }()
	<-stalled
	require.NoError(t, other.Store().Set(t.Context(), "a", "2", 0))
	close(release)
	require.NoError(t, <-result)
	assert.Equal(t, "2", sc.oldEntry(t, "a").Value)
	assert.Equal(t, "2", sc.newEntry(t, "a").Value)
}

func TestStore_PostgreSQLIsAway(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	c := quick()
	c.Lease, c.CopyTimeout = 200*time.Millisecond, 50*time.Millisecond
	m, operator := sc.slots[0].newMover(t, c), sc.slots[1].newMover(t, quick())
	startMover(t, m)
	s := m.Store()
	cut := func() {
		sc.slots[0].newProxy.RefuseNew()
		sc.slots[0].newProxy.ResetConnections()
	}

	advanceTo(t, operator, cutover.DualWrite)
	require.NoError(t, s.Set(t.Context(), "a", "0", 0))
	cut()
	require.NoError(t, s.Set(t.Context(), "a", "1", 0), "the primary wins")
	marks, err := sc.old.CountMarks(t.Context())
	require.NoError(t, err)
	assert.Positive(t, marks.Count)
	require.Eventually(t, func() bool { // also after its lease has expired
		value, _, err := s.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, "1", value)
		st, err := operator.Status(t.Context())
		require.NoError(t, err)
		return !st.Processes[0].Live
	}, waitTimeout, 10*time.Millisecond)

	advanceTo(t, operator, cutover.Backfill)
	_, _, err = s.Get(t.Context(), "a")
	require.ErrorIs(t, err, cutover.ErrStateUnknown, "a step was taken since")
	require.ErrorIs(t, s.Set(t.Context(), "a", "2", 0), cutover.ErrStateUnknown)
	assert.Equal(t, "1", sc.oldEntry(t, "a").Value)

	sc.slots[0].newProxy.Heal()
	advanceTo(t, operator, cutover.ReadNew)
	require.Eventually(t, func() bool { return s.Set(t.Context(), "a", "3", 0) == nil }, waitTimeout, time.Millisecond, "connected again")
	cut()
	err = s.Set(t.Context(), "secret:token", "4", 0)
	unsynced, ok := errors.AsType[*cutover.UnsyncedError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "secret:token", unsynced.Key)
	assert.NotContains(t, err.Error(), "token")
	sc.slots[0].newProxy.Heal()
	require.Eventually(t, func() bool { // repaired
		return sc.newEntry(t, "secret:token").Value == "4"
	}, waitTimeout, 10*time.Millisecond)
}

func TestStore_OldStoreIsAway(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	c := quick()
	c.CopyTimeout = 100 * time.Millisecond
	m, operator := sc.slots[0].newMover(t, c), sc.slots[1].newMover(t, quick())
	startMover(t, m)
	advanceTo(t, operator, cutover.PrimaryNew)
	require.NoError(t, m.Store().Set(t.Context(), "a", "1", 0))
	sc.slots[0].oldProxy.RefuseNew()
	sc.slots[0].oldProxy.ResetConnections()
	require.NoError(t, m.Store().Set(t.Context(), "a", "2", 0))
	require.NoError(t, m.Store().Delete(t.Context(), "b"))
	_, err := operator.Rollback(t.Context(), cutover.Off)
	require.NoError(t, err, "the operator's process repairs what the other one can't")
	assert.Equal(t, "2", sc.oldEntry(t, "a").Value)
}

func TestStore_LostCommitOfAWrite(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*faults.Proxy){
		"reply lost": (*faults.Proxy).DropCommitAck, "never sent": (*faults.Proxy).DropCommit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			c := quick()
			c.Poll, c.Repair = time.Second, time.Hour // the next COMMIT is that of the write
			m := sc.slots[0].newMover(t, c)
			startMover(t, m)
			advanceTo(t, m, cutover.PrimaryNew)
			require.NoError(t, m.Store().Set(t.Context(), "a", "1", 0))
			fault(sc.slots[0].newProxy)
			err := m.Store().Set(t.Context(), "a", "2", 0)
			if err == nil {
				assert.Equal(t, "2", sc.newEntry(t, "a").Value)
				assert.Equal(t, "2", sc.oldEntry(t, "a").Value)
			}
			_, err = m.Rollback(t.Context(), cutover.ReadNew)
			require.NoError(t, err)
			assert.Equal(t, sc.newEntry(t, "a").Value, sc.oldEntry(t, "a").Value)
		})
	}
}

func TestStore_JoinsTheTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	s := m.Store()
	errRollback := errors.New("roll back")
	inTx := func(key string, end error) error {
		return w.tx.Do(t.Context(), func(ctx context.Context) error {
			if err := s.Set(ctx, key, "1", 0); err != nil {
				return err
			}
			value, _, err := s.Get(ctx, key)
			require.NoError(t, err)
			assert.Equal(t, "1", value)
			return end
		})
	}
	advanceTo(t, m, cutover.DualWrite)
	require.ErrorIs(t, inTx("old", errRollback), errRollback)
	assert.True(t, w.oldEntry(t, "old").Found, "a write to the old store takes effect at once")
	assert.True(t, w.newEntry(t, "old").Found)

	advanceTo(t, m, cutover.PrimaryNew)
	require.ErrorIs(t, inTx("rolled back", errRollback), errRollback)
	assert.False(t, w.newEntry(t, "rolled back").Found)
	assert.False(t, w.oldEntry(t, "rolled back").Found)
	require.NoError(t, inTx("committed", nil))
	assert.True(t, w.newEntry(t, "committed").Found)
	assert.True(t, w.oldEntry(t, "committed").Found, "copied after the commit")
}

func TestStore_RefusesWhatCannotBeCopiedBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	advanceTo(t, m, cutover.PrimaryNew)
	err := m.Store().Set(t.Context(), "a", unstorable, 0)
	require.ErrorAs(t, err, new(*cutover.KeyError))
	assert.False(t, w.newEntry(t, "a").Found)
	advanceTo(t, m, cutover.Done)
	require.NoError(t, m.Store().Set(t.Context(), "a", unstorable, 0))
}

func TestStore_SnapshotOlderThanAStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	s := m.Store()
	advanceTo(t, m, cutover.PrimaryNew)
	require.NoError(t, s.Set(t.Context(), "a", "1", 0))
	err := w.tx.Do(t.Context(), func(ctx context.Context) error {
		if _, _, err := s.Get(ctx, "a"); err != nil { // takes the snapshot
			return err
		}
		defer m.HoldPolling()() // so the process still takes PostgreSQL for the primary
		if err := m.ExpireLease(t.Context()); err != nil {
			return err
		}
		if _, err := w.newMover(t, quick()).Rollback(t.Context(), cutover.ReadNew); err != nil {
			return err
		}
		return s.Set(ctx, "a", "2", 0)
	}, txn.RepeatableRead())
	require.Error(t, err)
	refused, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "40001", refused.Code)
	assert.Equal(t, "1", w.newEntry(t, "a").Value)
	assert.Equal(t, "1", w.oldEntry(t, "a").Value)
}

func TestStore_ExpiryMovesWithTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := quick()
	c.Sweep = 10 * time.Millisecond
	m := w.start(t, c)
	s := m.Store()
	require.NoError(t, s.Set(t.Context(), "backfilled", "1", time.Hour))
	advanceTo(t, m, cutover.ReadNew)
	assert.Equal(t, w.oldEntry(t, "backfilled").Expires.UTC(), w.newEntry(t, "backfilled").Expires.UTC())
	require.NoError(t, s.Set(t.Context(), "kept", "1", time.Hour))
	require.NoError(t, s.Set(t.Context(), "short", "1", time.Millisecond))
	require.Eventually(t, func() bool {
		_, found, err := s.Get(t.Context(), "short")
		require.NoError(t, err)
		return !found
	}, waitTimeout, time.Millisecond)

	advanceTo(t, m, cutover.PrimaryNew)
	require.NoError(t, s.Set(t.Context(), "later", "1", time.Hour))
	assert.Equal(t, w.oldEntry(t, "later").Expires.UTC(), w.newEntry(t, "later").Expires.UTC())
}

const insertExpired = "insert into items values ($1, '1', clock_timestamp() - interval '1 ms')"

func TestStore_ExpiredRowsAreAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := quick()
	c.Sweep = pgfx.Off
	m := w.start(t, c)
	advanceTo(t, m, cutover.PrimaryNew)
	_, err := w.tx.Exec(t.Context(), insertExpired, "a")
	require.NoError(t, err)
	_, found, err := m.Store().Get(t.Context(), "a")
	require.NoError(t, err)
	assert.False(t, found)
	require.NoError(t, m.Store().Update(t.Context(), "a", func(e entry) (entry, error) {
		assert.Equal(t, entry{Key: "a"}, e)
		return e, nil
	}))
	assert.False(t, w.newEntry(t, "a").Found)
}

func TestMover_SweepsExpiredRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := quick()
	c.Sweep = 10 * time.Millisecond
	core, logs := observer.New(zap.WarnLevel)
	c.Logger = zap.New(core)
	m := w.start(t, c)
	advanceTo(t, m, cutover.ReadNew)
	require.NoError(t, m.Store().Set(t.Context(), "kept", "1", time.Hour))
	require.NoError(t, m.Store().Set(t.Context(), "forever", "1", 0))
	_, err := w.tx.Exec(t.Context(), "alter table items rename to away")
	require.NoError(t, err)
	failed := func() int { return logs.FilterMessage("cannot delete expired rows").Len() }
	require.Eventually(t, func() bool { return failed() > 0 }, waitTimeout, time.Millisecond)
	_, err = w.tx.Exec(t.Context(), "alter table away rename to items")
	require.NoError(t, err)
	_, err = w.tx.Exec(t.Context(), insertExpired, "expired")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !w.newEntry(t, "expired").Found }, waitTimeout, time.Millisecond)
	assert.True(t, w.newEntry(t, "kept").Found)
	assert.True(t, w.newEntry(t, "forever").Found)
	assert.Equal(t, 1, failed(), "logged once")
}
