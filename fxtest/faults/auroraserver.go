package faults

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// auroraFile is the file in a server's data directory that its functions read. It differs between the servers of a cluster, which
// a replicated table could not.
const auroraFile = "fxtest_aurora.json"

// auroraAnswers is what the functions of one server return.
type auroraAnswers struct {
	Self      string           `json:"self"`
	Instances []auroraInstance `json:"instances"`
	Regions   []string         `json:"regions,omitempty"`
	BlueGreen []blueGreenRow   `json:"blue_green,omitempty"`
}

// blueGreenRow is an endpoint of a Blue/Green deployment.
type blueGreenRow struct {
	Endpoint string `json:"endpoint"`
	Role     string `json:"role"`
	Status   string `json:"status"`
}

// auroraInstance is a row of the functions. The server itself decides whether it is the writer, by its recovery state.
type auroraInstance struct {
	ID       string  `json:"id"`
	Endpoint string  `json:"endpoint"`
	Writer   bool    `json:"writer"`
	LagMsec  float64 `json:"lag_msec"`
	AgeSec   float64 `json:"age_sec"`
	Region   string  `json:"region"`
}

// auroraFunctions creates functions with the names and columns of AWS (Amazon Aurora User Guide, "Aurora PostgreSQL functions
// reference"). They are a subset: the columns that a client needs.
const auroraFunctions = `
set allow_system_table_mods = on;
create schema if not exists fxtest_aurora;
create function fxtest_aurora.answers() returns json language sql volatile security definer
	as $$ select pg_catalog.pg_read_file('` + auroraFile + `')::json $$;
create function fxtest_aurora.instances(out id text, out endpoint text, out writer boolean, out lag_msec float8, out age_sec float8,
	out region text, out self boolean) returns setof record language sql volatile security definer
	as $$ select i.id, i.endpoint, case when i.id = a->>'self' then not pg_catalog.pg_is_in_recovery() else i.writer end,
			i.lag_msec, i.age_sec, i.region, i.id = a->>'self'
		from fxtest_aurora.answers() a, pg_catalog.json_to_recordset(a->'instances')
			i(id text, endpoint text, writer boolean, lag_msec float8, age_sec float8, region text) $$;
`

const auroraStatusFunctions = `
create function pg_catalog.aurora_db_instance_identifier() returns text language sql volatile security definer
	as $$ select fxtest_aurora.answers()->>'self' $$;
create function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out replica_lag_in_msec float8,
	out last_update_timestamp timestamptz, out cpu float8) returns setof record language sql volatile security definer
	as $$ select id, case when writer then 'MASTER_SESSION_ID' else pg_catalog.md5(id)::uuid::text end,
			case when not writer then lag_msec end,
			case when not self then pg_catalog.clock_timestamp() - age_sec * interval '1 s' end, 1::float8
		from fxtest_aurora.instances() $$;
create function pg_catalog.get_blue_green_fast_switchover_metadata(caller text, out version text, out endpoint text, out port integer,
	out role text, out status text) returns setof record language sql volatile security definer
	as $$ select '1.0', r.endpoint, 5432, r.role, r.status
		from pg_catalog.json_to_recordset(coalesce(fxtest_aurora.answers()->'blue_green', '[]')) r(endpoint text, role text, status text) $$;
create function pg_catalog.aurora_global_db_status(out aws_region text) returns setof text language sql volatile security definer
	as $$ select pg_catalog.json_array_elements_text(coalesce(fxtest_aurora.answers()->'regions', '[]')) $$;
create function pg_catalog.aurora_global_db_instance_status(out server_id text, out session_id text, out aws_region text,
	out visibility_lag_in_msec bigint) returns setof record language sql volatile security definer
	as $$ select id, case when writer then 'MASTER_SESSION_ID' else pg_catalog.md5(id)::uuid::text end, region, lag_msec::bigint
		from fxtest_aurora.instances() $$;
`

const multiAZFunctions = `
create schema rds_tools;
create function rds_tools.dbi_resource_id() returns text language sql volatile security definer
	as $$ select 'db-' || pg_catalog.upper(fxtest_aurora.answers()->>'self') $$;
create function rds_tools.multi_az_db_cluster_source_dbi_resource_id() returns text language sql volatile security definer
	as $$ select 'db-' || pg_catalog.upper(id) from fxtest_aurora.instances() where writer order by self desc limit 1 $$;
create function rds_tools.show_topology(caller text default '', out id text, out endpoint text, out port integer)
	returns setof record language sql volatile security definer
	as $$ select 'db-' || pg_catalog.upper(id), endpoint, 5432 from fxtest_aurora.instances() $$;
grant usage on schema rds_tools, fxtest_aurora to public;
`

// createAuroraFunctions creates the functions in the databases postgres and template1, so that every new database has them.
func (s *Server) createAuroraFunctions(ctx context.Context, script string) {
	s.tb.Helper()
	for _, database := range []string{"postgres", "template1"} {
		conn, err := s.sessionIn(ctx, database, nil)
		if err != nil {
			s.tb.Fatalf("faults: connect to %s: %v", database, err)
		}
		_, err = conn.Exec(ctx, auroraFunctions+script)
		closeSessions(conn)
		if err != nil {
			s.tb.Fatalf("faults: create the functions of the cluster in %s: %v", database, err)
		}
	}
}

// writeAuroraAnswers replaces what the functions of the server return.
func (s *Server) writeAuroraAnswers(answers auroraAnswers) error {
	content, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	dir := s.server.DataDir()
	owner, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return err
	}
	written := filepath.Join(dir, auroraFile+".new")
	return errors.Join(
		os.WriteFile(written, content, 0o600),
		copyOwner(owner, written),
		os.Rename(written, filepath.Join(dir, auroraFile)),
	)
}
