package aurora

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	clusterEndpoint = "app.cluster-abc123.eu-west-1.rds.amazonaws.com"
	readerEndpoint  = "app.cluster-ro-abc123.eu-west-1.rds.amazonaws.com"
	greenEndpoint   = "app-green-a1b2c3.cluster-abc123.eu-west-1.rds.amazonaws.com"
)

func rowsWith(status string) []blueGreenRow {
	return []blueGreenRow{{clusterEndpoint, roleBlue, status}, {greenEndpoint, roleGreen, status}}
}

func TestDeployment_FollowsPhases(t *testing.T) {
	t.Parallel()
	d, now, hosts := newDeployment(), time.Now(), []string{clusterEndpoint}
	steps := []struct {
		side, status string
		want         phase
		rolledBack   bool
	}{
		{roleBlue, "AVAILABLE", phaseCreated, false},
		{roleBlue, "SWITCHOVER_INITIATED", phasePreparing, false},
		{roleGreen, "AVAILABLE", phasePreparing, false}, // the other side is late
		{roleGreen, "SWITCHOVER_INITIATED", phasePreparing, false},
		{roleBlue, "SWITCHOVER_IN_PROGRESS", phaseInProgress, false},
		{roleBlue, "AVAILABLE", phaseCreated, true},
		{roleBlue, "SWITCHOVER_INITIATED", phasePreparing, false},
		{roleGreen, "SWITCHOVER_IN_PROGRESS", phaseInProgress, false},
		{roleGreen, "SWITCHOVER_IN_POST_PROCESSING", phasePost, false},
		{roleBlue, "SWITCHOVER_IN_PROGRESS", phasePost, false}, // late again
		{roleBlue, "AVAILABLE", phasePost, false},
		{roleGreen, "SWITCHOVER_COMPLETED", phaseCompleted, false},
	}
	for i, step := range steps {
		now = now.Add(time.Second)
		assert.Equal(t, step.rolledBack, d.report(step.side, rowsWith(step.status), now), "step %d", i)
		assert.Equal(t, step.want, d.phase, "step %d", i)
		assert.Equal(t, step.want == phaseInProgress, d.isSwitching(hosts, now, time.Minute) && d.phase < phasePost, "step %d", i)
	}
	assert.Equal(t, phaseCompleted, d.phase)
	d.report(roleBlue, nil, now)
	assert.Equal(t, phaseCompleted, d.phase, "a side without rows changes nothing")
}

func TestDeployment_WaitsForTheAddressWithinTheLimit(t *testing.T) {
	t.Parallel()
	d, now, hosts := newDeployment(), time.Now(), []string{clusterEndpoint}
	d.report(roleBlue, rowsWith("AVAILABLE"), now)
	d.report(roleBlue, rowsWith("SWITCHOVER_IN_PROGRESS"), now)
	assert.True(t, d.isSwitching(hosts, now.Add(time.Second), 2*time.Second))
	assert.False(t, d.isSwitching(hosts, now.Add(3*time.Second), 2*time.Second), "the limit has passed")
	assert.Nil(t, d.route(clusterEndpoint), "the green side does not accept writes yet")
	d.report(roleGreen, rowsWith("SWITCHOVER_IN_POST_PROCESSING"), now)
	assert.True(t, d.isSwitching(hosts, now, time.Minute), "the address is not known")
	d.known[greenEndpoint] = "10.0.0.2:5432"
	assert.False(t, d.isSwitching(hosts, now, time.Minute))
	want := []pgfx.Address{{Host: clusterEndpoint, IPs: []string{"10.0.0.2:5432"}}, {Host: greenEndpoint, IPs: []string{"10.0.0.2:5432"}}}
	assert.Equal(t, want, d.route(clusterEndpoint))
	assert.Equal(t, "10.0.0.2:5432", d.route(readerEndpoint)[0].IPs[0], "without a green reader, its writer serves reads")
}

func TestDeployment_EndsWhenDNSLeadsToTheGreenSide(t *testing.T) {
	t.Parallel()
	d, now, hosts := newDeployment(), time.Now(), []string{clusterEndpoint, readerEndpoint}
	d.report(roleBlue, rowsWith("AVAILABLE"), now)
	d.known[greenEndpoint] = "10.0.0.2:5432"
	d.blues["10.0.0.1:5432"] = true
	assert.False(t, d.resolved(clusterEndpoint, "10.0.0.2:5432", hosts, now), "no switchover yet")
	d.report(roleGreen, rowsWith("SWITCHOVER_IN_POST_PROCESSING"), now)
	assert.False(t, d.resolved(clusterEndpoint, "10.0.0.1:5432", hosts, now))
	assert.NotNil(t, d.route(clusterEndpoint))
	assert.False(t, d.resolved(clusterEndpoint, "10.0.0.2:5432", hosts, now), "the reader endpoint is late")
	assert.Nil(t, d.route(clusterEndpoint))
	assert.False(t, d.resolved(readerEndpoint, "10.0.0.1:5432", hosts, now))
	assert.True(t, d.resolved(readerEndpoint, "10.0.0.3:5432", hosts, now), "another reader of the green side")
	assert.False(t, d.isActive())
	assert.Contains(t, d.summary(), "post_processing 0s, dns_updated 0s")
}

func TestDeployment_LeavesAFinishedOneToDNS(t *testing.T) {
	t.Parallel()
	d := newDeployment()
	d.report(roleGreen, rowsWith("SWITCHOVER_COMPLETED"), time.Now())
	assert.True(t, d.done)
	assert.False(t, d.isActive())
	assert.True(t, isNew(rowsWith("AVAILABLE")))
	assert.False(t, isNew(rowsWith("SWITCHOVER_COMPLETED")))
}

func TestBlueName_RemovesTheSuffix(t *testing.T) {
	t.Parallel()
	assert.Equal(t, clusterEndpoint, blueName(greenEndpoint))
	assert.Empty(t, blueName(clusterEndpoint))
	assert.Empty(t, blueName("app-green-x.abc123.eu-west-1.rds.amazonaws.com"))
}
