package health

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Status is a snapshot of the monitor. In JSON, errors are texts and durations are numbers of nanoseconds; a zero
// time, an empty list and an empty text are left out.
type Status struct {
	// Database is the name of the database in the application, "" for the default one.
	Database string `json:"database,omitempty"`
	// State is the current state and Since the time at which it began.
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Cause is why the database is down or, with ReasonConnectFailing and ReasonServerFull, why new connections fail.
	Cause pgfx.Cause `json:"cause,omitempty"`
	// Reasons are the problems of a database that is usable.
	Reasons []Reason `json:"reasons,omitempty"`
	// Err is the error behind Cause. Its JSON key is "error".
	Err error `json:"-"`
	// Monitored reports whether the monitor probes by itself. It is false before Start, after Close, and if
	// Config.Health.Interval is Off. Then State, Cause and Reasons are as old as LastProbe.
	Monitored bool `json:"monitored"`
	// Initialized reports whether the database has been reached and its setup steps have run.
	Initialized bool `json:"initialized"`
	// Demoted reports that the server rejects writes and has accepted them before. It is set in ReadOnly only.
	Demoted bool `json:"demoted,omitempty"`
	// Draining reports that Drain was called: the application is about to stop.
	Draining bool `json:"draining,omitempty"`
	// LastProbe is the result of the last probe, zero before the first. LastGood is when the last successful probe began.
	LastProbe ProbeResult `json:"last_probe"`
	LastGood  time.Time   `json:"last_good,omitzero"`
	// Server describes the server as of the last successful probe.
	Server Server `json:"server"`
	// Topology describes the cluster of the server, nil unless package pgfx/aurora is in use.
	Topology *pgfx.Topology `json:"topology,omitempty"`
	// Pool describes the pool at the time of the snapshot.
	Pool pgfx.PoolStats `json:"pool"`
	// Resets counts how often the monitor has recycled the pool's connections. LastReset is the reason of the last time.
	// ResetsByReason has the count of each reason. Snapshots share it: do not change it.
	Resets         int                 `json:"resets"`
	LastReset      ResetReason         `json:"last_reset,omitempty"`
	ResetsByReason map[ResetReason]int `json:"resets_by_reason,omitempty"`
	// Transitions counts the transitions into each state from another one. Snapshots share it: do not change it.
	Transitions map[State]int `json:"transitions,omitempty"`
	// EndedBackends counts the backends of lost connections that the monitor has ended, so that they release their locks.
	EndedBackends int `json:"ended_backends"`
	// DroppedTransitions counts the transitions that subscribers lost because they were too slow.
	DroppedTransitions int `json:"dropped_transitions"`
	// History holds the last transitions, oldest first, at most 32. Snapshots share it: do not change it.
	History []Transition `json:"history,omitempty"`
}

// MarshalJSON writes s with Err as text.
func (s Status) MarshalJSON() ([]byte, error) {
	type fields Status
	return json.Marshal(struct {
		fields
		jsonError
	}{fields(s), textOf(s.Err)})
}

// ProbeResult is the result of one probe. Its JSON form is as for [Status].
type ProbeResult struct {
	// At is when the probe began, Took its whole duration and Latency the time of its round trip alone.
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took"`
	Latency time.Duration `json:"latency"`
	// NewConn reports whether the probe opened a connection.
	NewConn bool `json:"new_conn"`
	// Cause and Err are why the probe failed; both are empty if it succeeded. Err's JSON key is "error".
	Cause pgfx.Cause `json:"cause,omitempty"`
	Err   error      `json:"-"`
}

// MarshalJSON writes r with Err as text.
func (r ProbeResult) MarshalJSON() ([]byte, error) {
	type fields ProbeResult
	return json.Marshal(struct {
		fields
		jsonError
	}{fields(r), textOf(r.Err)})
}

// Transition is a change of the state, or of the reasons within a state. Its JSON form is as for [Status].
type Transition struct {
	// Database is the name of the database in the application, "" for the default one.
	Database string `json:"database,omitempty"`
	// From and To are the states before and after. They are equal if only the reasons changed.
	From State `json:"from"`
	To   State `json:"to"`
	// At is when the monitor decided and Lasted how long the state From had lasted.
	At     time.Time     `json:"at"`
	Lasted time.Duration `json:"lasted"`
	// Cause, Reasons and Err are those of Status after the transition. Err's JSON key is "error".
	Cause   pgfx.Cause `json:"cause,omitempty"`
	Reasons []Reason   `json:"reasons,omitempty"`
	Err     error      `json:"-"`
	// Reset is why the monitor recycled the pool's connections at this transition, "" if it did not.
	Reset ResetReason `json:"reset,omitempty"`
}

// MarshalJSON writes t with Err as text.
func (t Transition) MarshalJSON() ([]byte, error) {
	type fields Transition
	return json.Marshal(struct {
		fields
		jsonError
	}{fields(t), textOf(t.Err)})
}

// jsonError adds an error's text to a JSON object.
type jsonError struct {
	Error string `json:"error,omitempty"`
}

func textOf(err error) jsonError {
	if err == nil {
		return jsonError{}
	}
	return jsonError{err.Error()}
}

// incremented returns a copy of counts in which the count of key is one higher. Status hands counts out without copying them.
func incremented[K comparable](counts map[K]int, key K) map[K]int {
	counts = maps.Clone(counts)
	if counts == nil {
		counts = make(map[K]int)
	}
	counts[key]++
	return counts
}

const historyLength = 32

// appendHistory returns a copy of the history with t at its end. Status hands the history out without copying it, so the
// old one must not change.
func appendHistory(history []Transition, t Transition) []Transition {
	if len(history) == historyLength {
		history = history[1:]
	}
	return append(append(make([]Transition, 0, len(history)+1), history...), t)
}
