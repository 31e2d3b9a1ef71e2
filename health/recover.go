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
type plan struct {
	open  bool        // the gate
	shut  bool        // the gate
	reset ResetReason // "" for none
}

// planFor decides what to do. Both ways of the gate are repeated with each look: a start that goes on in the background
// moves it too.
func planFor(v verdict) plan {
	p := plan{open: v.to.Usable(), shut: v.to == Down}
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
func (p plan) what() string {
	switch {
	case p.shut:
		return "failing fast and reconnecting"
	case p.reset != "":
		return "replacing the pool's connections"
	default:
		return "none needed"
	}
}

// carryOut does what the plan says. The pool is replaced before the gate lets anybody through.
func (p plan) carryOut(db *pgfx.DB, cause error) {
	if p.reset != "" {
		db.Reset()
	}
	switch {
	case p.shut:
		db.Internals().Gate().Close(cause)
	case p.open:
		db.Internals().Gate().Open()
	}
}

const (
	// confirmAfter is the wait before the look that confirms a recovery.
	confirmAfter = 50 * time.Millisecond
	// firstWait is the longest wait after the first look that saw something wrong; each further one doubles it.
	firstWait = 100 * time.Millisecond
	// mostWait is the longest wait while anything is wrong.
	mostWait = 5 * time.Second
	// mostQuickWait is the longest while the database may be back any moment, which is to be noticed within a second.
	mostQuickWait = 800 * time.Millisecond
)

// pace decides when to look again.
type pace struct {
	interval time.Duration
	streak   int // looks since something has been wrong in this way
}

// next returns the wait until the next look. soon asks for an early one for a reason that the machine doesn't know. random
// is between 0 and 1 and spreads the looks of many processes.
func (p *pace) next(v verdict, soon bool, random float64) time.Duration {
	if v.from != v.to {
		p.streak = 0
	}
	wait, spread := p.interval, p.interval/10
	switch {
	case v.rising:
		wait, spread = confirmAfter, 0
	case v.unsettled || soon:
		wait = mostWait
		if v.passing() {
			wait = mostQuickWait
		}
		if backoff := firstWait << min(p.streak, 10); backoff < wait {
			wait = backoff
		}
		p.streak++
		spread = wait / 2
	default:
		p.streak = 0
	}
	return min(wait, p.interval) - time.Duration(random*float64(min(spread, p.interval)))
}

// passing reports whether what is wrong passes by itself, as a restart or a failover does. What somebody must mend first is
// asked for less often, and a login not so often that it locks the role out, nor a full server's slots.
func (v verdict) passing() bool {
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
var words = map[State]string{
	Starting: "database not seen yet", Up: "database up", Degraded: "database degraded", ReadOnly: "database read-only",
	Down: "database down", Stopped: "health monitor stopped",
}

// report writes the log's one line for a transition.
func report(logger *zap.Logger, t Transition, p plan, holders []pgfx.Lease) {
	fields := []zap.Field{
		zap.String("from", string(t.From)), zap.Duration("lasted", t.Lasted), zap.String("action", p.what()),
	}
	if t.Cause != "" {
		fields = append(fields, zap.String("cause", string(t.Cause)))
	}
	if len(t.Reasons) > 0 {
		fields = append(fields, zap.Strings("reasons", texted(t.Reasons)))
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
		logger.Info(words[t.To], fields...)
	case Degraded, ReadOnly:
		logger.Warn(words[t.To], fields...)
	case Down:
		logger.Error(words[t.To], fields...)
	}
}
