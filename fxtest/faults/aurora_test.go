package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// connectAurora connects to an endpoint of a simulated cluster.
func connectAurora(t *testing.T, cluster *faults.Aurora, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	require.NoError(t, cluster.BeforeConnect(ctx, config))
	conn, err := pgx.ConnectConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(cleanupContext(t)) })
	return conn
}

type replicaStatus struct {
	ServerID string
	Writer   bool
	Lag      float64
}

func replicaStatuses(t *testing.T, conn *pgx.Conn) []replicaStatus {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select server_id, session_id = 'MASTER_SESSION_ID', coalesce(replica_lag_in_msec, 0)
		from aurora_replica_status() order by 1`)
	require.NoError(t, err)
	statuses, err := pgx.CollectRows(rows, pgx.RowToStructByPos[replicaStatus])
	require.NoError(t, err)
	return statuses
}

func TestAurora_FailsOver(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Instances: 3})
	self := func(conn *pgx.Conn) string { return query[string](t, conn, "select aurora_db_instance_identifier()") }
	writer := connectAurora(t, cluster, cluster.URL())
	execute(t, writer, "create table entries (n int)", "insert into entries values (1)")

	t.Run("endpoints lead to instances that describe the cluster", func(t *testing.T) {
		assert.Equal(t, "app-1", self(writer))
		assert.Equal(t, "app-2", self(connectAurora(t, cluster, cluster.InstanceURL("app-2"))))
		reader := connectAurora(t, cluster, cluster.ReaderURL())
		assert.NotEqual(t, self(reader), self(connectAurora(t, cluster, cluster.ReaderURL())), "readers are taken in turn")
		cluster.SetLag("app-3", 20*time.Millisecond)
		want := []replicaStatus{{"app-1", true, 0}, {"app-2", false, 0}, {"app-3", false, 20}}
		assert.Equal(t, want, replicaStatuses(t, writer))
		assert.Equal(t, want, replicaStatuses(t, reader))
		cluster.SetLag("app-3", 0)
	})
	t.Run("functions exist in new databases", func(t *testing.T) {
		execute(t, writer, "create database later")
		assert.Equal(t, "app-1", self(connectAurora(t, cluster, cluster.URL()+"&dbname=later")))
	})
	t.Run("a failover keeps data and the cluster endpoint is late", func(t *testing.T) {
		cluster.SetDNSLag(time.Hour)
		cluster.Failover("app-3")
		late := connectAurora(t, cluster, cluster.URL())
		assert.Equal(t, "app-1", self(late))
		assert.True(t, query[bool](t, late, "select pg_is_in_recovery()"), "the old writer is a reader")
		cluster.UpdateDNS()
		next := connectAurora(t, cluster, cluster.URL())
		assert.Equal(t, "app-3", self(next))
		execute(t, next, "insert into entries values (2)")
		for _, id := range []string{"app-1", "app-2"} {
			conn := connectAurora(t, cluster, cluster.InstanceURL(id))
			assert.Equal(t, []replicaStatus{{"app-1", false, 0}, {"app-2", false, 0}, {"app-3", true, 0}}, replicaStatuses(t, conn))
			require.Eventually(t, func() bool { return countEntries(t, conn) == 2 }, timeout, time.Millisecond, "%s follows the new writer", id)
		}
	})
	t.Run("a lost reader leaves the cluster and comes back", func(t *testing.T) {
		cluster.Kill("app-2")
		conn := connectAurora(t, cluster, cluster.URL())
		assert.Len(t, replicaStatuses(t, conn), 2)
		cluster.Rejoin("app-2")
		assert.Len(t, replicaStatuses(t, conn), 3)
	})
}

func TestAurora_MultiAZ(t *testing.T) {
	t.Parallel()
	cluster := faults.NewAurora(t, faults.AuroraConfig{Kind: faults.AuroraMultiAZ})
	for _, id := range []string{"app-1", "app-2"} {
		conn := connectAurora(t, cluster, cluster.InstanceURL(id))
		assert.Equal(t, "db-APP-1", query[string](t, conn, "select rds_tools.multi_az_db_cluster_source_dbi_resource_id()"))
		assert.Equal(t, cluster.Host(id), query[string](t, conn,
			"select endpoint from rds_tools.show_topology('test') where id = rds_tools.dbi_resource_id()"))
	}
}
