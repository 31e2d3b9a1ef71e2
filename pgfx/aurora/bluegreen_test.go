package aurora_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func inPhase(phase string) func(pgfx.Topology) bool {
	return func(t pgfx.Topology) bool { return t.BlueGreen != nil && t.BlueGreen.Phase == phase }
}

// awaitState waits for a transition to a state.
func awaitState(t *testing.T, transitions <-chan health.Transition, state health.State) health.Transition {
	t.Helper()
	deadline := time.After(waitLimit)
	for {
		select {
		case transition := <-transitions:
			if transition.To == state {
				return transition
			}
		case <-deadline:
			require.Fail(t, "no transition", "to %s", state)
		}
	}
}

func TestBlueGreen_SwitchesOver(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	green := cluster.NewGreen()
	cluster.SetDNSLag(time.Hour)
	a := newApp(t, cluster, cluster.URL())
	_, err := a.db.Pool().Exec(t.Context(), "create table entries (n int)")
	require.NoError(t, err)
	transitions, cancel := a.health.Subscribe()
	defer cancel()
	a.await(t, inPhase("created"))
	green.Initiate()
	a.await(t, inPhase("preparing"))

	ctx, written := t.Context(), make(chan error, 1)
	t.Run("callers wait in the active phase", func(t *testing.T) {
		green.Begin()
		assert.True(t, a.await(t, inPhase("in_progress")).BlueGreen.Switching)
		assert.Equal(t, health.Switching, awaitState(t, transitions, health.Switching).To)
		go func() {
			_, err := a.db.Pool().Exec(ctx, "insert into entries values (1)")
			written <- err
		}()
		select {
		case err := <-written:
			assert.Fail(t, "the caller did not wait", "%v", err)
		case <-time.After(200 * time.Millisecond):
		}
		assert.True(t, a.health.IsHealthy())
	})
	t.Run("they continue on the green side while DNS is late", func(t *testing.T) {
		green.Finish()
		require.NoError(t, <-written)
		assert.Equal(t, health.ResetSwitched, awaitState(t, transitions, health.Up).Reset)
		topology := a.db.Topology()
		assert.False(t, topology.BlueGreen.Switching)
		assert.True(t, topology.BlueGreen.Substituted)
		assert.Equal(t, "app-1-green-abc123", a.server(t))
	})
	t.Run("they follow DNS when it is up to date", func(t *testing.T) {
		green.Rename()
		a.await(t, func(topology pgfx.Topology) bool { return writerID(topology) == "app-1" })
		assert.Equal(t, "app-1", a.server(t))
		cluster.UpdateDNS()
		finished := a.awaitLog(t, "switchover finished").ContextMap()
		assert.Regexp(t, `^created -.+, preparing -.+, in_progress 0s, post_processing .+, dns_updated .+$`, finished["timeline"])
		green.Complete()
		a.await(t, inPhase("completed"))
		assert.False(t, a.db.Topology().BlueGreen.Substituted)
		_, err := a.db.Pool().Exec(t.Context(), "insert into entries values (2)")
		require.NoError(t, err)
	})
}

func TestBlueGreen_SurvivesRollback(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	green := cluster.NewGreen()
	a := newApp(t, cluster, cluster.URL())
	transitions, cancel := a.health.Subscribe()
	defer cancel()
	a.await(t, inPhase("created"))
	green.Initiate()
	a.await(t, inPhase("preparing"))
	green.Begin()
	awaitState(t, transitions, health.Switching)
	written := make(chan error, 1)
	go func() {
		_, err := a.db.Pool().Exec(t.Context(), "create table entries (n int)")
		written <- err
	}()
	green.Rollback()
	a.awaitLog(t, "switchover rolled back")
	require.NoError(t, <-written, "the caller continues on the blue side")
	awaitState(t, transitions, health.Up)
	assert.Equal(t, "app-1", a.server(t))
	assert.False(t, a.db.Topology().BlueGreen.Switching)
}
