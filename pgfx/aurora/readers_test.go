package aurora_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
)

func TestReaders_LeaveALostInstance(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Instances: 3})
	cluster.SetDNSLag(time.Hour)
	a := newApp(t, cluster, cluster.ReaderURL())
	// leadsTo waits until new connections lead to exactly these instances.
	leadsTo := func(t *testing.T, want ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			seen := make(map[string]bool)
			for range 4 {
				conn, err := a.db.Connect(t.Context(), "test")
				if err != nil {
					return false
				}
				var id string
				err = conn.QueryRow(t.Context(), "select aurora_db_instance_identifier()").Scan(&id)
				_ = conn.Close(t.Context())
				if err != nil {
					return false
				}
				seen[id] = true
			}
			for _, id := range want {
				if !seen[id] {
					return false
				}
			}
			return len(seen) == len(want)
		}, waitLimit, 20*time.Millisecond)
	}

	t.Run("connections go to the readers in turn", func(t *testing.T) { leadsTo(t, "app-2", "app-3") })
	t.Run("a lost reader gets none", func(t *testing.T) {
		cluster.Kill("app-2")
		leadsTo(t, "app-3")
		assert.Equal(t, "app-1", writerID(a.db.Topology()))
		assert.Zero(t, a.db.Topology().Changes)
	})
	t.Run("it gets some when it is back", func(t *testing.T) {
		cluster.Rejoin("app-2")
		leadsTo(t, "app-2", "app-3")
	})
	t.Run("a reader that becomes the writer gets none", func(t *testing.T) {
		cluster.Failover("app-3")
		leadsTo(t, "app-1", "app-2")
	})
}

func TestTopology_MultiAZ(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Kind: faults.AuroraMultiAZ, Instances: 3})
	cluster.SetDNSLag(time.Hour)
	a := newApp(t, cluster, cluster.URL())
	topology := a.db.Topology()
	assert.Equal(t, pgfx.TopologyMultiAZ, topology.Kind)
	require.Len(t, topology.Instances, 3)
	assert.Equal(t, pgfx.Instance{ID: "app-1", Host: cluster.Host("app-1"), Port: 5432, Writer: true}, topology.Instances[0])
	cluster.Failover("app-3")
	a.awaitWrite(t, "create table if not exists entries (n int)")
	assert.Equal(t, "app-3", writerID(a.await(t, func(topology pgfx.Topology) bool { return topology.Changes == 1 })))
}

func TestTopology_GlobalDatabase(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	cluster.SetDNSLag(time.Hour)
	cluster.AddRegion("us-east-1", "far-1")
	cluster.AddRegion("ap-south-1", "far-2")
	a := newApp(t, cluster, cluster.URL(), aurora.Topology(aurora.Config{
		RegionPatterns: map[string]string{"us-east-1": "?.far123.us-east-1.rds.amazonaws.com"},
	}))
	topology := a.db.Topology()
	assert.Equal(t, pgfx.TopologyAuroraGlobal, topology.Kind)
	hosts := make(map[string]string)
	for _, instance := range topology.Instances {
		hosts[instance.ID] = instance.Host
	}
	assert.Equal(t, map[string]string{
		"app-1": cluster.Host("app-1"), "app-2": cluster.Host("app-2"), "far-1": "far-1.far123.us-east-1.rds.amazonaws.com", "far-2": "",
	}, hosts)
	cluster.Failover("app-2")
	a.awaitWrite(t, "create table if not exists entries (n int)")
	assert.Equal(t, "app-2", a.server(t))
}
