package aurora_test

import (
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
)

// open starts a DB that is closed when the test ends.
func open(t *testing.T, config pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(config, opts...)
	require.NoError(t, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(t, err)
	t.Cleanup(func() { app{db: db, health: monitor}.close(t) })
	require.NoError(t, db.Start(t.Context()))
	return db
}

func TestTopology_PlainServerCostsOneQuery(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{URL: fxtest.URL(t)}, aurora.Topology(aurora.Config{}))
	assert.Equal(t, pgfx.Topology{Kind: pgfx.TopologyPlain}, db.Topology())
	assert.EqualValues(t, 1, db.Stats().Statements.Count)
}

func TestAutomatic_IgnoresOtherHosts(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{URL: fxtest.URL(t)}, aurora.Automatic())
	assert.Zero(t, db.Topology())
	assert.Zero(t, db.Stats().Statements.Count)
}

func TestTopology_RefusesWrongConfig(t *testing.T) {
	t.Parallel()
	db, err := pgfx.Open(pgfx.Config{URL: fxtest.URL(t)}, aurora.Topology(aurora.Config{InstancePattern: "db.internal"}))
	require.NoError(t, err)
	require.ErrorContains(t, db.Start(t.Context()), "put one ? in place of the instance identifier")
}

func TestTopology_SharesOneMonitor(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	cluster.SetDNSLag(time.Hour)
	first := newApp(t, cluster, cluster.URL())
	second := newApp(t, cluster, cluster.InstanceURL("app-1"))
	monitors := func() (n int) {
		require.NoError(t, second.db.Pool().QueryRow(t.Context(),
			"select count(*) from pg_stat_activity where application_name like '%/topology'").Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return monitors() == 1 }, waitLimit, time.Millisecond)
	assert.Equal(t, first.db.Topology().Cluster, second.db.Topology().Cluster)

	t.Run("the second takes over", func(t *testing.T) {
		first.close(t)
		require.Eventually(t, func() bool { return monitors() == 1 }, waitLimit, time.Millisecond)
		cluster.Failover("app-2")
		second.await(t, func(topology pgfx.Topology) bool { return writerID(topology) == "app-2" })
	})
	t.Run("an instance endpoint stays with its instance", func(t *testing.T) {
		assert.Equal(t, "app-1", second.server(t))
	})
}

func TestTopology_FollowsDNSWithoutInstanceEndpoints(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	hidden := aurora.Topology(aurora.Config{InstancePattern: "?.hidden." + "fxtest123.eu-west-1.rds.amazonaws.com"})
	a := newApp(t, cluster, cluster.URL(), hidden)
	warned := a.awaitLog(t, "instance endpoint cannot be reached; connections follow DNS: set aurora.Config.InstancePattern, or open the network")
	assert.Equal(t, "app-1", warned.ContextMap()["instance"])
	assert.Equal(t, "app-1", a.server(t))
	cluster.Failover("app-2")
	a.await(t, func(topology pgfx.Topology) bool { return writerID(topology) == "app-2" && topology.Err == "" })
	assert.Equal(t, "app-2", a.server(t))
}

func TestTopology_PrivateNames(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{})
	cluster.SetDNSLag(time.Hour)
	private, err := url.Parse(cluster.URL())
	require.NoError(t, err)
	writer, err := url.Parse(cluster.Server("app-1").URL())
	require.NoError(t, err)
	private.Host = net.JoinHostPort("orders.db.test", "5432")
	resolver := faults.NewResolver(t, "orders.db.test", writer.String())
	a := newApp(t, cluster, private.String(), resolver.Option(), aurora.Topology(aurora.Config{
		WriterHosts: []string{"orders.db.test"}, InstancePattern: "?.fxtest123.eu-west-1.rds.amazonaws.com",
	}))
	cluster.Failover("app-2")
	a.await(t, func(topology pgfx.Topology) bool { return writerID(topology) == "app-2" })
	assert.Equal(t, "app-2", a.server(t), "the private name still resolves to app-1")
}
