package aurora_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestTopology_FollowsFailover(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Instances: 3})
	cluster.SetDNSLag(time.Hour)
	a := newApp(t, cluster, cluster.URL())
	_, err := a.db.Pool().Exec(t.Context(), "create table entries (n int)")
	require.NoError(t, err)

	t.Run("the topology is known after the start", func(t *testing.T) {
		topology := a.db.Topology()
		assert.Equal(t, pgfx.TopologyAurora, topology.Kind)
		assert.NotEmpty(t, topology.Cluster)
		assert.Equal(t, "app-1", writerID(topology))
		require.Len(t, topology.Instances, 3)
		assert.Equal(t, cluster.Host("app-2"), topology.Instances[1].Host)
		detected := a.awaitLog(t, "topology detected").ContextMap()
		assert.Equal(t, "app-1", detected["writer"])
	})
	t.Run("writes go to the new writer while DNS is late", func(t *testing.T) {
		transitions, cancel := a.health.Subscribe()
		defer cancel()
		cluster.Stop("app-1")
		cluster.Promote("app-3")
		took := a.awaitWrite(t, "insert into entries values (1)")
		t.Logf("first write %v after the promotion", took.Round(time.Millisecond))
		topology := a.await(t, func(topology pgfx.Topology) bool { return topology.Changes == 1 })
		assert.Equal(t, "app-3", writerID(topology))
		assert.Equal(t, "app-3", a.server(t))
		changed := a.awaitLog(t, "writer changed").ContextMap()
		assert.Equal(t, "app-1", changed["from"])
		assert.Equal(t, "app-3", changed["to"])
		for transition := range transitions {
			if transition.To == health.Up {
				assert.NotEmpty(t, transition.Reset, "the pool's connections are recycled")
				break
			}
		}
		status, err := json.Marshal(a.health.Status())
		require.NoError(t, err)
		assert.Contains(t, string(status), `"topology":{"kind":"aurora"`)
	})
	t.Run("the old writer comes back as a reader", func(t *testing.T) {
		cluster.Rejoin("app-1")
		cluster.Failover("app-2")
		a.awaitWrite(t, "insert into entries values (2)")
		topology := a.await(t, func(topology pgfx.Topology) bool {
			return writerID(topology) == "app-2" && len(topology.Instances) == 3
		})
		assert.Equal(t, 2, topology.Changes)
	})
}
