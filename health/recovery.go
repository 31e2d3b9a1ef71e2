package health

import (
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ResetReason is why the monitor recycled the pool's connections (pgfx.DB.Reset).
type ResetReason string

// The reasons. If several apply, the first one is reported.
const (
	ResetRecovered     ResetReason = "recovered"      // the database was down
	ResetSwitched      ResetReason = "switched"       // a Blue/Green switchover has ended
	ResetServerChanged ResetReason = "server_changed" // another server answers at the address, or another run of it
	ResetRoleChanged   ResetReason = "role_changed"   // the server was promoted or demoted
	ResetSuspect       ResetReason = "suspect"        // the monitor's connection was lost or unresponsive while new ones work
)

// recoveryPlan is what a decision requires.
type recoveryPlan struct {
	openGate  bool
	closeGate bool
	holdGate  bool
	reset     ResetReason // "" for none
}

// planFor derives the plan. It sets the gate at each probe, not only at a change, because a start in the background opens and
// closes the gate too.
func planFor(d decision) recoveryPlan {
	p := recoveryPlan{openGate: d.to.Usable() && d.to != Switching, closeGate: d.to == Down, holdGate: d.to == Switching}
	if !p.openGate {
		return p
	}
	switch {
	case d.from == Switching:
		p.reset = ResetSwitched
	case d.from == Down:
		p.reset = ResetRecovered
	case d.serverChanged:
		p.reset = ResetServerChanged
	case d.roleChanged:
		p.reset = ResetRoleChanged
	case d.suspectPool:
		p.reset = ResetSuspect
	}
	return p
}

// describe returns the log's text for the plan.
func (p recoveryPlan) describe() string {
	switch {
	case p.closeGate:
		return "failing fast and reconnecting"
	case p.holdGate:
		return "callers wait"
	case p.reset != "":
		return "recycling the pool's connections"
	default:
		return "none needed"
	}
}

// apply carries the plan out. It resets the pool before it opens the gate, so no caller gets an old connection.
func (p recoveryPlan) apply(db *pgfx.DB, cause error) {
	if p.reset != "" {
		db.Reset()
	}
	switch gate := db.Internals().Gate(); {
	case p.closeGate:
		gate.Close(cause)
	case p.holdGate:
		gate.Hold(holdLimit)
	case p.openGate:
		gate.Open()
	}
}

// holdLimit bounds how long callers wait during a switchover, whatever package aurora reports.
const holdLimit = time.Minute

// mayEndAtAnyMoment reports whether the next probe may find the end of an outage: a database that is down, or a writer that was
// demoted. A refused login is the exception. Repeated logins can lock the role out, so the monitor waits for other credentials
// (see credentialsChanged).
func (d decision) mayEndAtAnyMoment() bool {
	return d.demoted || d.to == Down && d.cause != pgfx.CauseLogin
}

var stateMessages = map[State]string{
	Starting: "database not probed yet", Up: "database up", Degraded: "database degraded", ReadOnly: "database read-only",
	Down: "database down", Switching: "database switching over", Stopped: "health monitor stopped",
}

// logTransition writes one line for a transition.
func logTransition(logger *zap.Logger, t Transition, p recoveryPlan, holders []pgfx.Lease) {
	fields := []zap.Field{
		zap.String("from", string(t.From)), zap.Duration("lasted", t.Lasted), zap.String("action", p.describe()),
	}
	if t.Cause != "" {
		fields = append(fields, zap.String("cause", string(t.Cause)))
	}
	if len(t.Reasons) > 0 {
		fields = append(fields, zap.Strings("reasons", reasonStrings(t.Reasons)))
	}
	if p.reset != "" {
		fields = append(fields, zap.String("reset", string(p.reset)))
	}
	if len(holders) > 0 {
		fields = append(fields, zap.Stringers("holders", holders))
	}
	if t.Err != nil {
		fields = append(fields, zap.Error(t.Err))
	}
	switch t.To {
	case Up, Stopped, Starting:
		logger.Info(stateMessages[t.To], fields...)
	case Degraded, ReadOnly, Switching:
		logger.Warn(stateMessages[t.To], fields...)
	case Down:
		logger.Error(stateMessages[t.To], fields...)
	}
}
