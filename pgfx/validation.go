package pgfx

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// validateAfterIdle is how long a connection may be idle and still be handed out without validation.
const validateAfterIdle = time.Second

// maxValidateFactor limits the time for a validation, as a multiple of Timeouts.Validate.
const maxValidateFactor = 4

// shouldPing is pgxpool's hook for a connection that was found for an acquire. It never requests a ping. It decides whether
// prepareConn, which pgxpool calls next, validates the connection, and notes whether the acquire had to wait.
func (db *DB) shouldPing(ctx context.Context, params pgxpool.ShouldPingParams) bool {
	state := stateOf(params.Conn)
	if state == nil {
		return false
	}
	// pgxpool counts a new connection as idle since it began to open it.
	idle := params.IdleDuration > db.validateAfterIdle && db.stats.Now()-state.idleSince > db.validateAfterIdle
	state.validate = idle || state.writeRefused
	if acquire, ok := ctx.(*acquireCtx); ok {
		acquire.find(state)
	}
	return false
}

// prepareAcquired is pgxpool's hook for a connection that is about to be handed out. If it returns false without an error,
// pgxpool takes another connection, MaxConns times at most. Its own error after that would not name the cause.
func (db *DB) prepareAcquired(ctx context.Context, conn *pgx.Conn) (bool, error) {
	state := stateOf(conn)
	if state == nil {
		return true, nil
	}
	if state.validate && db.validateTimeout > 0 {
		if err := ctx.Err(); err != nil {
			return true, err
		}
		err := db.validate(ctx, conn, state)
		if acquire, ok := ctx.(*acquireCtx); ok {
			acquire.found = db.stats.Now()
		}
		if err != nil {
			return false, db.rejected(ctx, err)
		}
	}
	if !db.limitSetup(ctx, conn, state) || !db.refreshTypes(conn, state) {
		return false, nil
	}
	if _, ok := ctx.(*acquireCtx); !ok { // AcquireAllIdle, which is not traced
		db.stats.BeginLease(state.stats, db.stats.Now())
	}
	return true, nil
}

// rejected counts a connection that failed validation in an acquire with ctx. It returns an error if it was the last one that
// pgxpool takes.
func (db *DB) rejected(ctx context.Context, err error) error {
	acquire, ok := ctx.(*acquireCtx)
	if !ok {
		return nil
	}
	acquire.rejected++
	if acquire.rejected <= int(db.pool.Stat().MaxConns()) {
		return nil
	}
	return fmt.Errorf("pgfx: acquire: %d connections failed validation; if the network is slow, raise Timeouts.Validate; "+
		"the last one: %w", acquire.rejected, err)
}

// validate returns nil if a connection may be handed out. The server must answer in time, and its answer shows in the same
// round trip whether it is read-only. A connection that fails is replaced. A connection is validated if it was idle, or if a
// write was refused on it (SQLSTATE 25006). The cause of that may be a read-only transaction of the application, or a server
// that was demoted. When ctx ends, the canceler leaves time for the answer, so a caller in a hurry costs no live connection.
//
// If a connection gets no answer, the others that were opened before it are probably dead, too. So the whole pool is reset,
// once, and callers do not find them one by one. The socket is closed at once, because the connection occupies its slot in the
// pool as long as it is open.
func (db *DB) validate(ctx context.Context, conn *pgx.Conn, state *connState) error {
	state.validate, state.writeRefused = false, false
	// Opening a connection takes several round trips, so its duration is enough for one.
	limit := min(max(state.opening, db.validateTimeout), maxValidateFactor*db.validateTimeout)
	readOnly, err := queryReadOnly(ctx, conn, limit)
	if err != nil {
		_ = conn.PgConn().Conn().Close() // the connection is given up: its error does not matter
		db.reportFailure(err)
		if ctx.Err() == nil {
			db.pacer.lost()
			if db.generation.CompareAndSwap(state.generation, state.generation+1) {
				db.validationResets.Add(1)
				db.pool.Reset()
			}
		}
		return err
	}
	if readOnly && db.leavesReadOnly(state.wasWriter) {
		return &RoleError{Target: db.target}
	}
	return nil
}

// leavesReadOnly reports whether a connection must not be used on a read-only server. wasWriter reports whether the server accepted
// writes when the connection was opened.
func (db *DB) leavesReadOnly(wasWriter bool) bool {
	return db.config.Role == RoleWriter || db.config.Role == RoleAuto && wasWriter
}

// requiresWriter reports whether a read-only server may be the wrong one.
func (db *DB) requiresWriter() bool {
	return db.config.Role == RoleAuto || db.config.Role == RoleWriter
}

// queryReadOnly returns whether the server is read-only. It costs as much as a ping.
func queryReadOnly(ctx context.Context, conn *pgx.Conn, timeout time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, "show transaction_read_only").ReadAll()
	if err != nil {
		return false, err //nolint:wrapcheck // wrapped by the caller
	}
	if conn.IsClosed() { // the answer and the end of ctx coincided, and the canceler has given the connection up
		return false, context.DeadlineExceeded
	}
	return len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "on", nil
}

// reportedReadOnly returns whether the server has reported at login that it is read-only. From PostgreSQL 14 on it reports
// both settings unasked (PostgreSQL manual, "Protocol Flow", "Asynchronous Operations").
func reportedReadOnly(conn *pgx.Conn) bool {
	pg := conn.PgConn()
	return pg.ParameterStatus("in_hot_standby") == "on" || pg.ParameterStatus("default_transaction_read_only") == "on"
}
