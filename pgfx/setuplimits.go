package pgfx

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// requestTimeouts are the server's settings that bound the statements of requests. They do not bound setup steps, which the
// context of the start bounds.
func requestTimeouts() []string {
	return []string{"statement_timeout", "idle_in_transaction_session_timeout"}
}

// inSetup reports whether ctx is that of a setup step of db.
func (db *DB) inSetup(ctx context.Context) bool {
	return !db.initialized.Load() && ctx.Value(setupKey{}) == db
}

// limitSetup lifts the timeouts of requests on a connection that a setup step acquires, and restores them for the first other
// holder. It returns false if the connection cannot be used.
func (db *DB) limitSetup(ctx context.Context, conn *pgx.Conn, state *connState) bool {
	lift := db.inSetup(ctx)
	if lift == state.unlimited {
		return true
	}
	var statements []string
	for _, setting := range requestTimeouts() {
		switch value := db.connConfig.RuntimeParams[setting]; {
		case value == "" || value == "0":
		case lift:
			statements = append(statements, "set "+setting+" = 0")
		default:
			statements = append(statements, "reset "+setting) // to the value that was sent at login
		}
	}
	state.unlimited = lift
	if len(statements) == 0 {
		return true
	}
	_, err := conn.PgConn().Exec(ctx, strings.Join(statements, "; ")).ReadAll()
	return err == nil
}
