package cutover_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

func TestMover_MovesKeysThroughAllPhases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(t, quick())
	other := w.start(t, quick())
	ctx, s := t.Context(), m.Store()

	require.NoError(t, s.Set(ctx, "off", "1", 0))
	require.NoError(t, s.Set(ctx, "deleted", "1", 0))
	for phase := cutover.Off; phase <= cutover.Done; phase++ {
		advanceTo(t, m, phase)
		name := phase.String()
		require.NoError(t, s.Set(ctx, name, "first", 0))
		require.NoError(t, other.Store().Set(ctx, name, "second", time.Hour))
		require.NoError(t, s.Update(ctx, name, func(e entry) (entry, error) {
			e.Value += " updated"
			return e, nil
		}))
		value, found, err := other.Store().Get(ctx, name)
		require.NoError(t, err)
		assert.True(t, found)
		assert.Equal(t, "second updated", value, phase)
		assert.Equal(t, phase < cutover.Done, w.oldEntry(t, name).Found, phase)
		assert.Equal(t, phase > cutover.Off, w.newEntry(t, name).Found, phase)
		if phase > cutover.Off && phase < cutover.Done {
			assert.Equal(t, w.oldEntry(t, name).Expires.UTC(), w.newEntry(t, name).Expires.UTC(), phase)
		}
		if phase == cutover.Backfill {
			require.NoError(t, s.Delete(ctx, "deleted"))
		}
	}
	assert.True(t, w.newEntry(t, "off").Found, "backfilled")
	assert.False(t, w.newEntry(t, "deleted").Found)
	require.NoError(t, m.Clean(ctx))

	st, err := m.Status(ctx)
	require.NoError(t, err)
	assert.Equal(t, cutover.Done, st.Phase)
	_, err = m.Rollback(ctx, cutover.Off)
	require.Error(t, err)
	history, err := m.History(ctx)
	require.NoError(t, err)
	assert.Len(t, history, 7)
}
