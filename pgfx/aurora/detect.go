package aurora

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// querier is a connection or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// The functions that describe a cluster (Amazon Aurora User Guide, "Aurora PostgreSQL functions reference"; Amazon RDS User
// Guide, extension rds_tools; the dialects of aws/aws-advanced-go-wrapper).
const (
	fnReplicaStatus = "pg_catalog.aurora_replica_status"
	fnGlobalStatus  = "pg_catalog.aurora_global_db_status"
	fnGlobalMembers = "pg_catalog.aurora_global_db_instance_status"
	fnMultiAZWriter = "rds_tools.multi_az_db_cluster_source_dbi_resource_id"
	fnShowTopology  = "rds_tools.show_topology"
	fnBlueGreen     = "pg_catalog.get_blue_green_fast_switchover_metadata"
)

// listFunctions is the one query that a plain server costs.
const listFunctions = `select distinct n.nspname || '.' || p.proname
	from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
	where (n.nspname, p.proname) in (('pg_catalog', 'aurora_replica_status'), ('pg_catalog', 'aurora_global_db_status'),
		('pg_catalog', 'aurora_global_db_instance_status'), ('pg_catalog', 'get_blue_green_fast_switchover_metadata'),
		('rds_tools', 'multi_az_db_cluster_source_dbi_resource_id'), ('rds_tools', 'show_topology'))`

// detection is what a server can report.
type detection struct {
	kind    pgfx.TopologyKind
	cluster string // the system identifier, "" if the role may not read it
	// blueGreen reports whether the server has a function that describes Blue/Green deployments.
	blueGreen bool
}

// detect finds out the kind of cluster that db belongs to.
func detect(ctx context.Context, db querier) (detection, error) {
	functions, err := queryColumn(ctx, db, listFunctions)
	if err != nil {
		return detection{}, fmt.Errorf("aurora: list the server's functions: %w", err)
	}
	d := detection{kind: pgfx.TopologyPlain}
	has := func(name string) bool { return slices.Contains(functions, name) }
	if has(fnShowTopology) {
		d.kind = pgfx.TopologyInstance
	}
	switch {
	case has(fnReplicaStatus):
		d.kind, err = detectAurora(ctx, db, has(fnGlobalStatus) && has(fnGlobalMembers))
	case has(fnMultiAZWriter):
		d.kind, err = detectMultiAZ(ctx, db, d.kind)
	}
	if err != nil || d.kind == pgfx.TopologyPlain {
		return d, err
	}
	d.blueGreen = d.kind == pgfx.TopologyAurora && has(fnBlueGreen) || d.kind == pgfx.TopologyInstance
	// A role without the privilege can still follow the cluster. Then the cluster has no identity that other DBs could share.
	if identifiers, err := queryColumn(ctx, db, `select system_identifier::text from pg_catalog.pg_control_system()`); err == nil && len(identifiers) == 1 {
		d.cluster = identifiers[0]
	}
	return d, nil
}

func detectAurora(ctx context.Context, db querier, mayBeGlobal bool) (pgfx.TopologyKind, error) {
	if !mayBeGlobal {
		return pgfx.TopologyAurora, nil
	}
	regions, err := queryColumn(ctx, db, `select aws_region::text from pg_catalog.aurora_global_db_status()`)
	if err != nil {
		return "", fmt.Errorf("aurora: read the Regions of the global database: %w", err)
	}
	if len(regions) > 1 {
		return pgfx.TopologyAuroraGlobal, nil
	}
	return pgfx.TopologyAurora, nil
}

// detectMultiAZ returns otherwise if the server belongs to no Multi-AZ DB cluster, although it has the function.
func detectMultiAZ(ctx context.Context, db querier, otherwise pgfx.TopologyKind) (pgfx.TopologyKind, error) {
	writers, err := queryColumn(ctx, db, `select w::text from rds_tools.multi_az_db_cluster_source_dbi_resource_id() w where w is not null`)
	switch {
	case sqlstate.Code(err) == sqlstate.InsufficientPrivilege:
		return "", fmt.Errorf("aurora: the login user may not read the topology of the cluster: "+
			"grant usage on schema rds_tools, and execute on all functions in schema rds_tools, to the user: %w", err)
	case err != nil:
		return "", fmt.Errorf("aurora: read the writer of the Multi-AZ DB cluster: %w", err)
	case len(writers) > 0:
		return pgfx.TopologyMultiAZ, nil
	}
	return otherwise, nil
}

// queryColumn returns the values of a query with one column. It takes one round trip, because nothing is prepared.
func queryColumn(ctx context.Context, db querier, sql string) ([]string, error) {
	rows, err := db.Query(ctx, sql, pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string]) //nolint:wrapcheck // the caller names the query
}

// viewQueries return the members of a cluster as one instance describes them. The columns are identifier, whether it is the
// writer, lag in milliseconds, Region, endpoint and port. Each row ends with the polled instance and whether that is in recovery.
//
// Rows of Aurora that are older than 300 s belong to instances that are gone. From 13.9 on, the time is null in the row of the
// polled instance.
var viewQueries = map[pgfx.TopologyKind]string{
	pgfx.TopologyAurora: `select server_id::text, session_id = 'MASTER_SESSION_ID', coalesce(replica_lag_in_msec, 0)::float8, '', '', 0::int4,
			pg_catalog.aurora_db_instance_identifier()::text, pg_catalog.pg_is_in_recovery()
		from pg_catalog.aurora_replica_status()
		where session_id = 'MASTER_SESSION_ID' or last_update_timestamp is null
			or last_update_timestamp > pg_catalog.now() - interval '300 s'`,
	pgfx.TopologyAuroraGlobal: `select server_id::text, session_id = 'MASTER_SESSION_ID',
			greatest(coalesce(visibility_lag_in_msec, 0), 0)::float8, aws_region::text, '', 0::int4,
			pg_catalog.aurora_db_instance_identifier()::text, pg_catalog.pg_is_in_recovery()
		from pg_catalog.aurora_global_db_instance_status()`,
	pgfx.TopologyMultiAZ: `with members as materialized (select id, endpoint, port from rds_tools.show_topology('rdsfx')),
			own as (select rds_tools.dbi_resource_id() as id),
			writer as (select coalesce(nullif(rds_tools.multi_az_db_cluster_source_dbi_resource_id(), ''), own.id) as id from own)
		select split_part(m.endpoint, '.', 1), m.id = writer.id, 0::float8, '', m.endpoint::text, coalesce(m.port, 0)::int4,
			coalesce((select split_part(self.endpoint, '.', 1) from members self where self.id = own.id), ''),
			pg_catalog.pg_is_in_recovery()
		from members m cross join own cross join writer`,
}

// instanceQuery is the query for a single RDS instance, which reports only its role.
const instanceQuery = `select $1::text, not pg_catalog.pg_is_in_recovery(), 0::float8, '', $2::text, 0::int4, $1::text, pg_catalog.pg_is_in_recovery()`

// readView reads the topology from the instance that db is connected to. own is the DB's own address. pattern returns the instance
// pattern of a Region.
func readView(ctx context.Context, db querier, kind pgfx.TopologyKind, own pgfx.Address, pattern func(region string) string) (view, error) {
	query, args := viewQueries[kind], []any{pgx.QueryExecModeExec}
	if kind == pgfx.TopologyInstance {
		query, args = instanceQuery, append(args, cmp.Or(parseEndpoint(own.Host).name, own.Host), own.Host)
	}
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return view{}, fmt.Errorf("aurora: read the topology: %w", err)
	}
	var v view
	v.instances, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (instance pgfx.Instance, err error) {
		var (
			lag        float64
			port       int32
			inRecovery bool
		)
		err = row.Scan(&instance.ID, &instance.Writer, &lag, &instance.Region, &instance.Host, &port, &v.self, &inRecovery)
		instance.Lag = time.Duration(lag * float64(time.Millisecond))
		instance.Port = uint16(port) //nolint:gosec // a TCP port
		if address, ok := instanceAddress(pattern(instance.Region), instance.ID); ok && kind != pgfx.TopologyInstance {
			instance.Host, instance.Port = address.Host, cmp.Or(address.Port, instance.Port)
		}
		v.writes = v.writes || instance.Writer && !inRecovery && strings.EqualFold(instance.ID, v.self)
		return instance, err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return view{}, fmt.Errorf("aurora: read the topology: %w", err)
	}
	if len(v.instances) == 0 {
		return view{}, errors.New("aurora: read the topology: the server reports no instance")
	}
	return v, nil
}
