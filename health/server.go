package health

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server is what a probe learned about the server. A field is zero if the server does not have the value, or if the role may not
// read it. In JSON, durations are numbers of nanoseconds.
type Server struct {
	// InRecovery reports whether the server is a standby. ReadOnly reports whether new transactions can only read, because the
	// server is a standby or because default_transaction_read_only is on.
	InRecovery bool `json:"in_recovery"`
	ReadOnly   bool `json:"read_only"`
	// SystemIdentifier identifies the cluster; a primary and its standbys share it. Timeline is that of the last checkpoint,
	// which is behind for a while after a promotion (PostgreSQL manual, "Control Data Functions").
	SystemIdentifier string `json:"system_identifier,omitempty"`
	Timeline         int    `json:"timeline,omitempty"`
	// StartedAt is when the server's postmaster started.
	StartedAt time.Time `json:"started_at,omitzero"`
	// ReplicationLag is the age of the last transaction that a standby has replayed, 0 if it has replayed all that it received.
	// LagKnown distinguishes a lag of 0 from an unknown lag.
	ReplicationLag time.Duration `json:"replication_lag,omitempty"`
	LagKnown       bool          `json:"lag_known,omitempty"`
	// Connections counts the connections to all databases of the server. MaxConnections is how many of them ordinary roles may
	// have: max_connections without the reserved ones.
	Connections    int `json:"connections,omitempty"`
	MaxConnections int `json:"max_connections,omitempty"`
}

func (s Server) identity() identity {
	return identity{system: s.SystemIdentifier, started: s.StartedAt}
}

func (s Server) slots() slots { return slots{used: s.Connections, limit: s.MaxConnections} }

// probeQueries are the statements of a probe, the most informative first. Each takes one round trip. If the server lacks a
// function, or the role may not call it, the next statement is used: pg_control_… can be revoked, and Aurora has no WAL
// positions.
//
//nolint:gochecknoglobals // constants that are composed of parts
var probeQueries = func() []string {
	const (
		role = `select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')`
		run  = `, (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint` +
			`, (select sum(numbackends) from pg_catalog.pg_stat_database)` +
			`, pg_catalog.current_setting('max_connections')::int` +
			` - pg_catalog.current_setting('superuser_reserved_connections')::int` +
			` - coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int`
		lag = `, case when not pg_catalog.pg_is_in_recovery() then null` +
			` when pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() then 0` +
			` else (extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::bigint end`
		control = `, (select system_identifier from pg_catalog.pg_control_system())` +
			`, (select timeline_id from pg_catalog.pg_control_checkpoint())`
	)
	return []string{role + run + lag + control, role + run + lag, role + run, role}
}()

// canSimplify reports whether a simpler statement may succeed: the server rejected this one because of a missing privilege,
// function or feature.
func canSimplify(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pg.Code, "42") || strings.HasPrefix(pg.Code, "0A"))
}

// parseServer parses the row that any of the probeQueries returns. A column that is null or missing leaves its field zero.
func parseServer(row []string) (Server, error) {
	const columns = 8
	if len(row) < 2 {
		return Server{}, fmt.Errorf("the probe returned %d columns, expected at least 2", len(row))
	}
	row = slices.Grow(slices.Clone(row), columns)[:columns]
	s := Server{InRecovery: row[0] == "t", ReadOnly: row[1] == "on" || row[0] == "t", SystemIdentifier: row[6]}
	var errs []error
	number := func(column int) int64 {
		if row[column] == "" {
			return 0
		}
		n, err := strconv.ParseInt(row[column], 10, 64)
		errs = append(errs, err)
		return n
	}
	if started := number(2); started != 0 {
		s.StartedAt = time.UnixMicro(started)
	}
	s.Connections, s.MaxConnections = int(number(3)), int(number(4))
	s.LagKnown = row[5] != ""
	s.ReplicationLag = time.Duration(number(5)) * time.Microsecond
	s.Timeline = int(number(7))
	if err := errors.Join(errs...); err != nil {
		return Server{}, fmt.Errorf("parse the row that the probe returned: %w", err)
	}
	return s, nil
}
