package pgfx

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// connState is the DB's state of one pooled connection. Only the goroutine that acquires, holds or releases the
// connection uses it.
type connState struct {
	stats *poolstats.Conn
	// idleSince is when the connection was opened or last released, a time of poolstats.Collector.Now.
	idleSince time.Duration
	// opening is how long opening the connection took.
	opening time.Duration
	// backend is the server process of the connection.
	backend Backend
	// generation is DB.generation from before the connection was opened.
	generation int64
	// wasWriter reports whether the server accepted writes when the connection was opened.
	wasWriter bool
	// writeRefused reports that the server has refused a write on the connection (SQLSTATE 25006) since it was last validated.
	writeRefused bool
	// validate reports that the connection must be validated before it is handed out.
	validate bool
	// unlimited reports that the timeouts of requests are lifted for a setup step.
	unlimited bool
	// types are the types that are registered on the connection.
	types *typeSet
}

// customDataKey is the key of a *connState in the custom data of its pgx connection, where it is found without a lock that
// connections share.
const customDataKey = "rdsfx"

// openingKey is the key of the time that opening a connection has taken, which is known before its state exists.
const openingKey = "rdsfx.opening"

// stateOf returns the state of a pooled connection, nil for a connection that the pool has not opened.
func stateOf(conn *pgx.Conn) *connState {
	state, _ := conn.PgConn().CustomData()[customDataKey].(*connState)
	return state
}

// addConn starts to keep a state for a new connection of the pool.
func (db *DB) addConn(conn *pgx.Conn, backend Backend, generation int64) *connState {
	data := conn.PgConn().CustomData()
	opening, _ := data[openingKey].(time.Duration)
	state := &connState{
		stats: db.stats.Add(conn, backend.Started), backend: backend, idleSince: db.stats.Now(), opening: opening, generation: generation,
	}
	data[customDataKey] = state
	return state
}
