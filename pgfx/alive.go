package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// freshFor is how long after its last use a connection is taken to be alive without asking.
const freshFor = time.Second

// shouldPing is pgxpool's hook. It never asks for a ping; it notes for validate, which comes next and isn't told, whether
// the connection has been idle, and for the watch when it stopped being so: pgxpool has just read the clock.
func (db *DB) shouldPing(ctx context.Context, params pgxpool.ShouldPingParams) bool {
	state := stateOf(params.Conn)
	if state == nil {
		return false
	}
	state.suspect = params.IdleDuration > db.freshFor || state.refused
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		return false
	}
	acquire.state = state
	if acquire.at = state.back + params.IdleDuration; state.back == 0 && !db.config.Stats.Disabled { // new: not idle, but being made
		acquire.at = db.now()
	}
	return false
}

// beforeUse is pgxpool's hook for a connection that is about to be handed out.
func (db *DB) beforeUse(ctx context.Context, conn *pgx.Conn) (bool, error) {
	acquire, ok := ctx.(*acquireCtx)
	if !ok || acquire.state == nil {
		return true, nil
	}
	state := acquire.state
	if state.suspect && db.validateTimeout > 0 {
		if !db.validate(conn, state) {
			return false, nil
		}
		acquire.at = db.now() // asking took its time
	}
	return db.refreshTypes(conn, state), nil
}

// validate reports whether a connection that was idle may be handed out. It has to prove within Timeouts.Validate that it is
// alive, and tells its role in the same round trip; one that fails is replaced. One that was used a moment ago is asked, too,
// when a write was refused on it (SQLSTATE 25006): the application's own read-only transaction, or a server that was
// demoted. The caller's ctx waits for so long.
//
// One that doesn't answer at all speaks for all that were made with it: the whole pool is reset, once, so that callers
// don't meet them one by one. Its socket is closed by hand, because pgx would wait for it to drain, up to 15 seconds, and
// hold its place in the pool all the while.
func (db *DB) validate(conn *pgx.Conn, state *connState) bool {
	state.suspect, state.refused = false, false
	readOnly, err := askReadOnly(conn, db.validateTimeout)
	if err != nil {
		_ = conn.PgConn().Conn().Close() // it is given up: nobody can act on an error
		db.reportFailure(err)
		if db.generation.CompareAndSwap(state.generation, state.generation+1) {
			db.pool.Reset()
		}
		return false
	}
	if readOnly && (db.config.Role == RoleWriter || db.config.Role == RoleAuto && state.writer) {
		return false
	}
	return true
}

// minds reports whether it matters that a server is read-only.
func (db *DB) minds() bool { return db.config.Role == RoleAuto || db.config.Role == RoleWriter }

// askReadOnly asks the server for its role, which costs what a ping costs. The time is bounded by the socket's deadline:
// a ctx that ends would make pgx ask the server, over another connection, to cancel, and wait for the answer.
func askReadOnly(conn *pgx.Conn, timeout time.Duration) (bool, error) {
	pg := conn.PgConn()
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return false, err //nolint:wrapcheck // looked at and dropped
	}
	results, err := pg.Exec(context.Background(), "show transaction_read_only").ReadAll()
	if err != nil {
		return false, err //nolint:wrapcheck // looked at and dropped
	}
	if err := pg.Conn().SetDeadline(time.Time{}); err != nil {
		return false, err //nolint:wrapcheck // looked at and dropped
	}
	return len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "on", nil
}

// reportedReadOnly reads what the server has said at login about its role: from PostgreSQL 14 on it reports both settings
// by itself (PostgreSQL manual, "Protocol Flow", "Asynchronous Operations").
func reportedReadOnly(conn *pgx.Conn) bool {
	pg := conn.PgConn()
	return pg.ParameterStatus("in_hot_standby") == "on" || pg.ParameterStatus("default_transaction_read_only") == "on"
}
