package pgfx

import (
	"time"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// StalledStatement is a statement that waits for the server's answer while no statement of the pool makes progress.
type StalledStatement struct {
	// Backend is the server process that executes the statement, or would have to.
	Backend Backend
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
	return stalledStatements(i.db.stats.Stalled(atLeast))
}

// RunningStatements returns the statements that have been running for at least atLeast on connections opened before the given time.
// It does not matter whether other statements succeed. Use it if the connections of that time are probably broken.
func (i *Internals) RunningStatements(atLeast time.Duration, openedBefore time.Time) []StalledStatement {
	return stalledStatements(i.db.stats.Running(atLeast, openedBefore))
}

func stalledStatements(found []poolstats.StalledStatement) []StalledStatement {
	var stalled []StalledStatement
	for _, s := range found {
		stalled = append(stalled, StalledStatement{
			Backend: Backend{PID: s.PID, Started: s.BackendStarted}, For: s.For, Silent: s.Silent, statement: s,
		})
	}
	return stalled
}

// Abandon closes the sockets of those statements that are still running and returns their number. Their callers get an error
// at once instead of at their deadline, and the pool may open other connections in their place.
//
// Use it for connections that are known to be dead: a server that still executes such a statement is not asked to cancel it.
// Data that has not been sent is dropped where the system allows it, but it may already be on its way. As after a deadline,
// the outcome of a write is unknown. The backends become orphans (see [Internals.Orphans]).
func (i *Internals) Abandon(statements []StalledStatement) int {
	n := 0
	for _, s := range statements {
		if socket := s.statement.Abandon(); socket != nil {
			i.db.orphans.add(s.Backend, socket)
			n++
		}
	}
	return n
}
