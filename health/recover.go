package health

import (
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ResetReason says why the monitor replaced the pool's connections.
type ResetReason string

// The reasons, the most telling first.
const (
	ResetRecovered     ResetReason = "recovered"      // the database was down
	ResetServerChanged ResetReason = "server_changed" // another server, or another run of it, answers at the address
	ResetRoleChanged   ResetReason = "role_changed"   // the server was promoted or demoted
	ResetSuspect       ResetReason = "suspect"        // the monitor's connection was lost or dead while new ones work
)

// plan is what to do about a verdict.
type recoveryPlan struct {
	openGate  bool        // the gate
	closeGate bool        // the gate
	reset     ResetReason // "" for none
}

// planFor decides what to do. Both ways of the gate are repeated with each look: a start that goes on in the background
// moves it too.
func planFor(v decision) recoveryPlan {
	p := recoveryPlan{openGate: v.to.Usable(), closeGate: v.to == Down}
	if !v.to.Usable() {
		return p
	}
	switch {
	case v.from == Down:
		p.reset = ResetRecovered
	case v.serverChanged:
		p.reset = ResetServerChanged
	case v.roleChanged:
		p.reset = ResetRoleChanged
	case v.suspectPool:
		p.reset = ResetSuspect
	}
	return p
}

// what says in a word what the plan does, for the log.
func (p recoveryPlan) describe() string {
	switch {
	case p.closeGate:
		return "failing fast and reconnecting"
	case p.reset != "":
		return "replacing the pool's connections"
	default:
		return "none needed"
	}
}

// carryOut does what the plan says. The pool is replaced before the gate lets anybody through.
func (p recoveryPlan) apply(db *pgfx.DB, cause error) {
	if p.reset != "" {
		db.Reset()
	}
	switch {
	case p.closeGate:
		db.Internals().Gate().Close(cause)
	case p.openGate:
		db.Internals().Gate().Open()
	}
}

const (
	// confirmAfter is the wait before the look that confirms a recovery.
	confirmationDelay = 50 * time.Millisecond
	// firstWait is the longest wait after the first look that saw something wrong; each further one doubles it.
	initialDelay = 100 * time.Millisecond
	// mostWait is the longest wait while anything is wrong.
	maxDelay = 5 * time.Second
	// mostQuickWait is the longest while the database may be back any moment, which is to be noticed within a second.
	maxTransientDelay = 800 * time.Millisecond
)

// pace decides when to look again.
type backoff struct {
	interval time.Duration
	attempts int // looks since something has been wrong in this way
}

// next returns the wait until the next look. soon asks for an early one for a reason that the machine doesn't know. random
// is between 0 and 1 and spreads the looks of many processes.
func (p *backoff) next(v decision, soon bool, random float64) time.Duration {
	if v.from != v.to {
		p.attempts = 0
	}
	wait, spread := p.interval, p.interval/10
	switch {
	case v.recovering:
		wait, spread = confirmationDelay, 0
	case v.probeSoon || soon:
		wait = maxDelay
		if v.isTransient() {
			wait = maxTransientDelay
		}
		if backoff := initialDelay << min(p.attempts, 10); backoff < wait {
			wait = backoff
		}
		p.attempts++
		spread = wait / 2
	default:
		p.attempts = 0
	}
	return min(wait, p.interval) - time.Duration(random*float64(min(spread, p.interval)))
}

// passing reports whether what is wrong passes by itself, as a restart or a failover does. What somebody must mend first is
// asked for less often, and a login not so often that it locks the role out, nor a full server's slots.
func (v decision) isTransient() bool {
	switch v.cause {
	case "":
		return v.demoted
	case pgfx.CauseLogin, pgfx.CauseTLS, pgfx.CauseDatabaseMissing, pgfx.CauseServerFull:
		return false
	default:
		return true
	}
}

// words are the log's message for each state.
var stateMessages = map[State]string{
	Starting: "database not seen yet", Up: "database up", Degraded: "database degraded", ReadOnly: "database read-only",
	Down: "database down", Stopped: "health monitor stopped",
}

// report writes the log's one line for a transition.
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
	case Degraded, ReadOnly:
		logger.Warn(stateMessages[t.To], fields...)
	case Down:
		logger.Error(stateMessages[t.To], fields...)
	}
}
