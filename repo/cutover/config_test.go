package cutover_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

func TestConfig_NamesEachInvalidField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := cutover.NewMover(w.tx, "test", cutover.Old[string](w.old), cutover.New[string](w.items), config{
		Hold: -1, Lease: time.Second, Poll: time.Second, ShadowReads: -1, Gates: cutover.Gates{MaxMismatchRate: 2},
	})
	for _, field := range []string{
		"Config.Hold is -1ns", "Config.Poll is 1s", "Config.ShadowReads is -1", "Config.Gates.MaxMismatchRate is 2",
	} {
		require.ErrorContains(t, err, field)
	}
	_, err = cutover.NewMover[string](nil, "test", w.old, w.items, config{})
	require.Error(t, err)
}

func TestMover_NeedsItsTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.tx.Exec(t.Context(), "drop table rdsfx_cutovers")
	require.NoError(t, err)
	m := w.newMover(t, config{})
	require.ErrorContains(t, m.Start(t.Context()), "add the setup step cutover.Setup")
	require.ErrorIs(t, m.Store().Set(t.Context(), "a", "1", 0), cutover.ErrNotStarted)
	require.NoError(t, m.Stop(t.Context()))
}

func TestPhase_HasATextForm(t *testing.T) {
	t.Parallel()
	for phase := cutover.Off; phase <= cutover.Done; phase++ {
		text, err := json.Marshal(phase)
		require.NoError(t, err)
		var parsed cutover.Phase
		require.NoError(t, json.Unmarshal(text, &parsed))
		assert.Equal(t, phase, parsed)
	}
	_, err := cutover.ParsePhase("unheard")
	require.ErrorContains(t, err, "use one of off, dual_write")
}

func TestCanonicalJSON_ComparesAsJSON(t *testing.T) {
	t.Parallel()
	a, err := cutover.CanonicalJSON([]byte(`{"b": 1.10, "a": [1, 2]}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"a":[1,2],"b":1.10}`, string(a))
	assert.Equal(t, `{"a":[1,2],"b":1.10}`, string(a)) //nolint:testifylint // the bytes matter
	_, err = cutover.CanonicalJSON([]byte("{"))
	require.Error(t, err)
}
