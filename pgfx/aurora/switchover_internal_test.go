package aurora

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// newSwitched returns a monitor whose cluster has been switched over to the green side at 10.0.0.2, at the time now.
func newSwitched(t *testing.T, now time.Time) (*monitor, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	db, err := pgfx.Open(pgfx.Config{URL: "postgres://app@" + clusterEndpoint + "/app"}, pgfx.WithLogger(zap.New(core)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	c := &cluster{kind: pgfx.TopologyAurora, state: newState(pgfx.TopologyAurora, "1")}
	m := newMonitor(c, newMember(db, Config{}.withDefaults()))
	c.members = []*member{m.member}
	m.process(blueAnswer("AVAILABLE"), now)
	m.process(answer{target: target{targetGreen, greenEndpoint}, address: "10.0.0.2:5432", view: view{blueGreen: rowsWith("AVAILABLE")}}, now)
	m.process(blueAnswer("SWITCHOVER_IN_PROGRESS"), now)
	require.True(t, db.Topology().BlueGreen.Switching)
	m.process(answer{target: target{kind: targetRouted}, view: view{blueGreen: rowsWith("SWITCHOVER_IN_POST_PROCESSING")}}, now)
	require.True(t, c.bg.isActive())
	return m, logs
}

// blueAnswer returns the answer of the blue side's writer.
func blueAnswer(status string) answer {
	a := seen("a", "a")
	a.target, a.address, a.view.blueGreen = target{targetInstance, "a"}, "10.0.0.1:5432", rowsWith(status)
	return a
}

func TestSwitchover_IgnoresTheBlueSideAfterwards(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m, _ := newSwitched(t, now)
	green := m.member.route(clusterEndpoint, 5432)
	require.NotEmpty(t, green)
	assert.Equal(t, []string{"10.0.0.2:5432"}, green[0].IPs)
	m.process(blueAnswer("AVAILABLE"), now.Add(time.Second)) // it was sent before the switchover
	assert.Empty(t, m.cluster.state.writerID(), "the writer of the blue side is no longer one")
	assert.Equal(t, phasePost, m.cluster.bg.phase)
	assert.Equal(t, green, m.member.route(clusterEndpoint, 5432), "no connection goes to the blue side")
}

func TestSwitchover_EndsWaitingAndSubstitutingAfterTheirLimits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m, logs := newSwitched(t, now)
	m.cluster.bg.known = map[string]string{} // the address of the green side is not known
	m.cluster.publishLocked(now)
	require.True(t, m.member.db.Topology().BlueGreen.Switching)
	m.plan(now.Add(m.config.SwitchTimeout - time.Second))
	assert.True(t, m.member.db.Topology().BlueGreen.Switching)
	m.plan(now.Add(m.config.SwitchTimeout + time.Second))
	assert.False(t, m.member.db.Topology().BlueGreen.Switching)
	assert.Equal(t, 1, logs.FilterMessage("switchover takes too long; callers no longer wait").Len())

	m, logs = newSwitched(t, now)
	m.plan(now.Add(substituteFor - time.Second))
	assert.NotEmpty(t, m.member.route(clusterEndpoint, 5432))
	m.plan(now.Add(substituteFor + time.Second))
	assert.Empty(t, m.member.route(clusterEndpoint, 5432))
	assert.Equal(t, 1, logs.FilterMessage("DNS still leads to the blue side; connections follow it again").Len())
}
