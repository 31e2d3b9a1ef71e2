package pgfx

import (
	"time"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// StalledStatement is a statement that waits for the server's answer while no statement of the pool makes progress.
type StalledStatement struct {
	// PID is the process ID of the server's backend, as in pg_stat_activity.
	PID uint32
	// For is how long the statement has been running.
	For time.Duration
	// Silent reports whether nothing has arrived on the connection since the statement began, which rules out a caller that
	// reads its rows slowly. It is always false on systems other than Linux and on connections that are not TCP.
	Silent bool

	statement poolstats.StalledStatement
}

// StalledStatements returns the statements that have been running for at least atLeast while the whole pool was silent. It
// returns nil if any statement of the pool has succeeded within that time. A slow statement and a network that drops every
// packet look the same here; the caller must tell them apart.
//
// It allocates nothing when there are no stalled statements. If Config.Stats.Disabled is set it returns nil.
func (i *Internals) StalledStatements(atLeast time.Duration) []StalledStatement {
	var stalled []StalledStatement
	for _, s := range i.db.stats.Stalled(atLeast) {
		stalled = append(stalled, StalledStatement{PID: s.PID, For: s.For, Silent: s.Silent, statement: s})
	}
	return stalled
}

// Abandon closes the sockets of those statements that are still running and returns their number. Their callers get an error
// at once instead of at their deadline, and the pool may open other connections in their place.
//
// Use it for connections that are known to be dead: a server that still executes such a statement is not asked to cancel it.
// Data that has not been sent is dropped where the system allows it, but it may already be on its way. As after a deadline,
// the outcome of a write is unknown.
func (i *Internals) Abandon(statements []StalledStatement) int {
	n := 0
	for _, s := range statements {
		if s.statement.Abandon() {
			n++
		}
	}
	return n
}
