package cutover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// fill writes n keys to the old store.
func (w *world) fill(tb testing.TB, n int) {
	tb.Helper()
	_, err := w.old.pool.Exec(tb.Context(), "insert into kv select 'key:' || i, 'v' || i from generate_series(1, $1) i", n)
	require.NoError(tb, err)
}

func TestBackfill_ContinuesAtItsCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.newMover(t, quick())
	w.fill(t, 100)
	_, err := m.Backfill(t.Context(), cutover.BackfillOptions{})
	require.ErrorContains(t, err, "advance to backfill first")
	advanceTo(t, m, cutover.Backfill)
	_, err = w.tx.Exec(t.Context(), "insert into items values ('extra', '1')")
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = m.Backfill(ctx, cutover.BackfillOptions{Batch: 10, Progress: func(p cutover.BackfillProgress) {
		if p.Keys >= 50 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	st, err := m.Status(t.Context())
	require.NoError(t, err)
	assert.False(t, st.Backfill.Complete)
	assert.Positive(t, st.Backfill.Remaining+1)
	assert.Equal(t, int64(100), st.Backfill.Total)

	var first int64
	noteFirst := func(p cutover.BackfillProgress) {
		if first == 0 {
			first = p.Keys
		}
	}
	options := cutover.BackfillOptions{Batch: 10, Rate: 100_000, Progress: noteFirst}
	progress, err := w.newMover(t, quick()).Backfill(t.Context(), options)
	require.NoError(t, err)
	assert.True(t, progress.Complete)
	assert.Greater(t, first, int64(50), "it didn't begin again")
	assert.Equal(t, "v7", w.newEntry(t, "key:7").Value)
	assert.False(t, w.newEntry(t, "extra").Found)
}

func TestBackfill_RestartsIfTheCursorIsLost(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	sc.fill(t, 30)
	m := sc.slots[0].newMover(t, quick())
	advanceTo(t, m, cutover.Backfill)
	scans := 0
	lose := crossing(func(_ context.Context, point string) error {
		if point == "before Scan" {
			if scans++; scans == 3 {
				return cutover.ErrCursorLost
			}
		}
		return nil
	})
	sc.slots[0].old.cross.Store(&lose)
	progress, err := m.Backfill(t.Context(), cutover.BackfillOptions{Batch: 10})
	require.NoError(t, err)
	assert.True(t, progress.Complete)
	assert.Greater(t, scans, 5)
}

func TestBackfill_NamesAKeyThatCannotBeCopied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.tx.Exec(t.Context(), "alter table items add check (value <> 'bad')")
	require.NoError(t, err)
	m := w.start(t, quick())
	require.NoError(t, m.Store().Set(t.Context(), "session:secret", "bad", 0))
	w.fill(t, 20)
	advanceTo(t, m, cutover.Backfill)
	_, err = m.Backfill(t.Context(), cutover.BackfillOptions{})
	failed, ok := errors.AsType[*cutover.KeyError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "session:secret", failed.Key)
	assert.NotContains(t, err.Error(), "secret")

	require.NoError(t, m.Store().Set(t.Context(), "session:secret", "good", 0))
	require.NoError(t, m.Store().Set(t.Context(), "other", "bad", 0), "the primary wins")
	_, err = m.Repair(t.Context())
	require.NoError(t, err)
	result, err := m.Repair(t.Context())
	require.NoError(t, err)
	require.Len(t, result.Failed, 1)
	assert.Equal(t, "other", result.Failed[0].Key)
	require.NoError(t, m.Store().Delete(t.Context(), "other"))
	advanceTo(t, m, cutover.Done)
}

func TestVerify_ClassifiesMismatches(t *testing.T) {
	t.Parallel()
	for _, phase := range []cutover.Phase{cutover.Verify, cutover.PrimaryNew} {
		t.Run(phase.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(t, 200)
			c := quick()
			c.Repair = time.Hour
			m := w.start(t, c)
			advanceTo(t, m, phase)
			report, err := m.Verify(t.Context(), cutover.VerifyOptions{})
			require.NoError(t, err)
			assert.Zero(t, report.Mismatches())
			assert.Equal(t, int64(200), report.NewKeys)

			for _, sql := range []string{
				"delete from items where key = 'key:1'", "delete from items where key = 'key:2'", "insert into items values ('extra', '1')",
				"update items set value = 'other' where key = 'key:3'", "update items set expires = now() + interval '1 hour' where key = 'key:4'",
				"update items set value = 'pending' where key = 'key:5'",
				"insert into items values ('expiring', '1', clock_timestamp() + interval '500 ms')",
			} {
				_, err := w.tx.Exec(t.Context(), sql)
				require.NoError(t, err)
			}
			if phase == cutover.Verify {
				_, err = w.old.pool.Exec(t.Context(), "insert into marks values ('m', 'key:5')")
			} else {
				_, err = w.tx.Exec(t.Context(), "insert into rdsfx_cutover_repairs values ('test', 'key:5', 1000, now())")
			}
			require.NoError(t, err)

			report, err = m.Verify(t.Context(), cutover.VerifyOptions{Batch: 30, MaxListed: 3})
			require.NoError(t, err)
			counts := report.MismatchCounts
			assert.Equal(t, []int64{2, 1, 2, 1}, []int64{counts.Missing, counts.Extra, counts.Different, counts.Raced}, "%+v", counts)
			assert.LessOrEqual(t, counts.Expired, int64(1))
			assert.Len(t, report.Listed, 3)
			text, err := json.Marshal(report)
			require.NoError(t, err)
			assert.Contains(t, string(text), `"missing":2`)

			st, err := m.Status(t.Context())
			require.NoError(t, err)
			assert.Equal(t, int64(5), st.Verification.Mismatches())
			assert.Empty(t, st.Verification.Listed, "no keys in the tables")
			if phase != cutover.Verify {
				return
			}
			report, err = m.Verify(t.Context(), cutover.VerifyOptions{Repair: true})
			require.NoError(t, err)
			assert.Equal(t, 5, report.Repaired)
			report, err = m.Verify(t.Context(), cutover.VerifyOptions{})
			require.NoError(t, err)
			assert.Zero(t, report.Mismatches())
		})
	}
}

func TestShadowReads_AreCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 10)
	m := w.start(t, quick())
	advanceTo(t, m, cutover.ShadowRead)
	require.NoError(t, m.SetShadowPercent(t.Context(), 100))
	_, err := w.tx.Exec(t.Context(), "update items set value = 'other' where key = 'key:3'")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		for i := range 5 {
			value, _, err := m.Store().Get(t.Context(), fmt.Sprintf("key:%d", i+1))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("v%d", i+1), value, "callers get the old store's")
		}
		st, err := m.Status(t.Context())
		require.NoError(t, err)
		return st.Shadow.Compared >= 20 && st.Shadow.Different > 0 && st.Shadow.Missing+st.Shadow.Extra == 0
	}, waitTimeout, time.Millisecond)
	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.ErrorContains(t, err, "shadow mismatches")
	require.Error(t, m.SetShadowPercent(t.Context(), 101))
}

func TestPlan_DescribesTheKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t, 100)
	m := w.newMover(t, quick())
	plan, err := m.Plan(t.Context(), cutover.PlanOptions{Rate: 50})
	require.NoError(t, err)
	assert.Equal(t, int64(100), plan.Keys)
	assert.Equal(t, 2*time.Second, plan.Duration)
	assert.Equal(t, int64(100), plan.Types["text"].Keys)
	assert.Equal(t, plan.Types["text"].Bytes, plan.Bytes)
	plan, err = m.Plan(t.Context(), cutover.PlanOptions{Sample: 10})
	require.NoError(t, err)
	assert.Less(t, plan.Sampled, int64(100))
	assert.Positive(t, plan.Rate)
}
