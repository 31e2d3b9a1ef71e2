package health

import (
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Status is what the monitor knows at a moment.
type Status struct {
	// Database is the name of the database in the application, "" for the default one.
	Database string `json:"database,omitempty"`
	// State is the verdict and Since when it was reached.
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Cause is why the database is down, or what new connections meet where Reasons say that they fail.
	Cause pgfx.Cause `json:"cause,omitempty"`
	// Reasons are what is wrong with a database that can be used.
	Reasons []Reason `json:"reasons,omitempty"`
	// Err is the error behind Cause.
	Err error `json:"-"`
	// Monitored tells whether looks are made without anybody asking: false before Start, after Stop, and when
	// Config.Health.Interval is Off. Then the rest is as old as LastProbe.
	Monitored bool `json:"monitored"`
	// ThroughPool tells that looks go through the pool (Config.Health.ThroughPool).
	ThroughPool bool `json:"through_pool,omitempty"`
	// Initialized tells whether the database has been reached and the setup has run.
	Initialized bool `json:"initialized"`
	// Demoted tells that the server refuses writes and took them before; only in ReadOnly.
	Demoted bool `json:"demoted,omitempty"`
	// Draining tells that Drain was called: the application is going away.
	Draining bool `json:"draining,omitempty"`
	// LastProbe is the last look, zero before the first, and LastGood when one was last answered.
	LastProbe ProbeResult `json:"last_probe"`
	LastGood  time.Time   `json:"last_good,omitzero"`
	// Server is what the last good look learned about the server.
	Server Server `json:"server"`
	// Pool is the pool at this moment.
	Pool pgfx.PoolStats `json:"pool"`
	// Resets counts how often the pool's connections were replaced, LastReset says why the last time.
	Resets    int         `json:"resets"`
	LastReset ResetReason `json:"last_reset,omitempty"`
	// Missed counts the transitions that subscribers were too slow to take.
	DroppedTransitions int `json:"dropped_transitions"`
	// History holds the last transitions, oldest first, at most 32. It is shared: don't change it.
	History []Transition `json:"history,omitempty"`
}

// Look is one look at the database.
type ProbeResult struct {
	// At is when the look began, Took how long it lasted, and Latency the time of its round trip alone.
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took"`
	Latency time.Duration `json:"latency"`
	// Fresh tells that a connection was opened for it.
	Fresh bool `json:"fresh"`
	// Cause and Err say why it failed; empty when it was answered.
	Cause pgfx.Cause `json:"cause,omitempty"`
	Err   error      `json:"-"`
}

// Transition is a change of state, or of the reasons within one.
type Transition struct {
	// Database is the name of the database in the application, "" for the default one.
	Database string `json:"database,omitempty"`
	// From and To are the states before and after; they are the same when only the reasons changed.
	From State `json:"from"`
	To   State `json:"to"`
	// At is when it was noticed and Lasted how long From had lasted.
	At     time.Time     `json:"at"`
	Lasted time.Duration `json:"lasted"`
	// Cause, Reasons and Err are those of Status after the transition.
	Cause   pgfx.Cause `json:"cause,omitempty"`
	Reasons []Reason   `json:"reasons,omitempty"`
	Err     error      `json:"-"`
	// Reset says why the pool's connections were replaced with it, "" when they were not.
	Reset ResetReason `json:"reset,omitempty"`
}

// historyLength is how many transitions a Status remembers.
const historyLength = 32

// remembered returns the history with one more transition. It is copied, so that Status can hand it out without a lock;
// transitions are rare.
func appendHistory(history []Transition, t Transition) []Transition {
	if len(history) == historyLength {
		history = history[1:]
	}
	return append(append(make([]Transition, 0, len(history)+1), history...), t)
}

func reasonStrings(reasons []Reason) []string {
	texts := make([]string, len(reasons))
	for i, reason := range reasons {
		texts[i] = string(reason)
	}
	return texts
}
