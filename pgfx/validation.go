package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// validateAfterIdle is how long a connection may be idle and still be handed out without validation.
const validateAfterIdle = time.Second

// shouldPing is pgxpool's hook for a connection that was found for an acquire. It never requests a ping. It decides whether
// prepareConn, which pgxpool calls next, validates the connection, and notes whether the acquire had to wait.
func (db *DB) shouldPing(ctx context.Context, params pgxpool.ShouldPingParams) bool {
	state := stateOf(params.Conn)
	if state == nil {
		return false
	}
	state.validate = params.IdleDuration > db.validateAfterIdle || state.writeRefused
	if acquire, ok := ctx.(*acquireCtx); ok {
		acquire.find(state)
	}
	return false
}

// prepareAcquired is pgxpool's hook for a connection that is about to be handed out.
func (db *DB) prepareAcquired(ctx context.Context, conn *pgx.Conn) (bool, error) {
	state := stateOf(conn)
	if state == nil {
		return true, nil
	}
	if state.validate && db.validateTimeout > 0 {
		valid := db.validate(conn, state)
		if acquire, ok := ctx.(*acquireCtx); ok {
			acquire.found = db.stats.Now()
		}
		if !valid {
			return false, nil
		}
	}
	return db.refreshTypes(conn, state), nil
}

// validate reports whether a connection may be handed out. The server must answer within Timeouts.Validate, and its answer
// shows in the same round trip whether it is read-only. A connection that fails is replaced. A connection is validated if it
// was idle, or if a write was refused on it (SQLSTATE 25006). The cause of that may be a read-only transaction of the
// application, or a server that was demoted. The caller's ctx does not shorten the wait.
//
// If a connection gets no answer, the others that were opened before it are probably dead, too. So the whole pool is reset,
// once, and callers do not find them one by one. The socket is closed here, because pgx would wait up to 15 seconds for it to
// drain, and occupy its slot in the pool meanwhile.
func (db *DB) validate(conn *pgx.Conn, state *connState) bool {
	state.validate, state.writeRefused = false, false
	readOnly, err := queryReadOnly(conn, db.validateTimeout)
	if err != nil {
		_ = conn.PgConn().Conn().Close() // the connection is given up: its error does not matter
		db.reportFailure(err)
		if db.generation.CompareAndSwap(state.generation, state.generation+1) {
			db.pool.Reset()
		}
		return false
	}
	if readOnly && (db.config.Role == RoleWriter || db.config.Role == RoleAuto && state.wasWriter) {
		return false
	}
	return true
}

// requiresWriter reports whether a read-only server may be the wrong one.
func (db *DB) requiresWriter() bool {
	return db.config.Role == RoleAuto || db.config.Role == RoleWriter
}

// queryReadOnly returns whether the server is read-only. It costs as much as a ping. The socket's deadline bounds it: if a
// ctx ended, pgx would request a cancellation over another connection and wait for the answer.
func queryReadOnly(conn *pgx.Conn, timeout time.Duration) (bool, error) {
	pg := conn.PgConn()
	if err := pg.Conn().SetDeadline(time.Now().Add(timeout)); err != nil {
		return false, err //nolint:wrapcheck // wrapped by the caller
	}
	results, err := pg.Exec(context.Background(), "show transaction_read_only").ReadAll()
	if err != nil {
		return false, err //nolint:wrapcheck // wrapped by the caller
	}
	if err := pg.Conn().SetDeadline(time.Time{}); err != nil {
		return false, err //nolint:wrapcheck // wrapped by the caller
	}
	return len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "on", nil
}

// reportedReadOnly returns whether the server has reported at login that it is read-only. From PostgreSQL 14 on it reports
// both settings unasked (PostgreSQL manual, "Protocol Flow", "Asynchronous Operations").
func reportedReadOnly(conn *pgx.Conn) bool {
	pg := conn.PgConn()
	return pg.ParameterStatus("in_hot_standby") == "on" || pg.ParameterStatus("default_transaction_read_only") == "on"
}
