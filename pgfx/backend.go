package pgfx

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Backend identifies the server process of a connection. Process IDs are reused, so the start time belongs to it.
type Backend struct {
	// PID is the process ID, as in pg_stat_activity.
	PID uint32
	// Started is when the process started: backend_start in pg_stat_activity, in microseconds since 1970. It is 0 if it is not
	// known, as behind a pooler.
	Started int64
}

// backendSQL returns the process ID and the start time of the session's backend. The process ID differs from the one that the
// client received at login if a pooler invented that.
const backendSQL = `select pg_catalog.pg_backend_pid(), (extract(epoch from backend_start) * 1000000)::bigint` +
	` from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())`

// clientLostSettings returns the server settings with which a server notices within d that its client has vanished. Keep-alive
// covers idle sessions, tcp_user_timeout data that is not acknowledged, and client_connection_check_interval running statements
// (PostgreSQL manual, "Connections and Authentication", "TCP Settings").
func clientLostSettings(d time.Duration) [][2]string {
	const (
		probes   = 3 // after half of the time, a probe every sixth of it
		interval = 2 * probes
	)
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	millis := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return [][2]string{
		{"tcp_keepalives_idle", seconds(d / 2)}, //nolint:mnd // half
		{"tcp_keepalives_interval", seconds(d / interval)},
		{"tcp_keepalives_count", strconv.Itoa(probes)},
		{"tcp_user_timeout", millis(d)},
		{"client_connection_check_interval", millis(d / interval)},
	}
}

// introduceSQL returns the statements of introduce: backendSQL, and the settings of Timeouts.ClientLost. A setting is skipped if
// the connection string sets it or the server does not have it. Nothing is set if a pooler assigned another backend.
func (db *DB) introduceSQL(conn *pgx.Conn) string {
	var settings []string
	if limit := db.config.Timeouts.ClientLost; limit > 0 {
		for _, s := range clientLostSettings(limit) {
			if _, given := conn.Config().RuntimeParams[s[0]]; !given {
				settings = append(settings, fmt.Sprintf(
					`case when pg_catalog.current_setting('%s', true) is not null then pg_catalog.set_config('%[1]s', '%s', false) end`, s[0], s[1]))
			}
		}
	}
	if len(settings) == 0 {
		return backendSQL
	}
	return fmt.Sprintf("%s; select %s where pg_catalog.pg_backend_pid() = %d", backendSQL, strings.Join(settings, ", "), conn.PgConn().PID())
}

// introduce identifies the backend of a new connection and sets how soon the server notices that the client has vanished, in one
// round trip. It does nothing behind a transaction pooler. If the server cannot execute the statements, the backend is unknown or
// the settings are the server's; that is no error.
func (db *DB) introduce(ctx context.Context, conn *pgx.Conn) (Backend, error) {
	pg := conn.PgConn()
	unknown := Backend{PID: pg.PID()}
	if db.config.Pooler == PoolerTransaction {
		return unknown, nil
	}
	ctx, cancel := context.WithTimeout(ctx, orElse(db.config.Timeouts.Connect, never))
	defer cancel()
	results, err := pg.Exec(ctx, db.introduceSQL(conn)).ReadAll()
	if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && (!refused || conn.IsClosed()) {
		return unknown, fmt.Errorf("pgfx: identify the backend: %w", err)
	}
	if len(results) == 0 || len(results[0].Rows) != 1 {
		return unknown, nil
	}
	row := results[0].Rows[0]
	started, err := strconv.ParseInt(string(row[1]), 10, 64)
	if err != nil || string(row[0]) != strconv.FormatUint(uint64(unknown.PID), 10) {
		return unknown, nil
	}
	return Backend{PID: unknown.PID, Started: started}, nil
}
