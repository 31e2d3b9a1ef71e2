package health

import (
	"slices"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// State is what the monitor holds a database to be.
type State string

// The states. The database can be used in Up, Degraded and ReadOnly.
const (
	Starting State = "starting"  // no look has been decisive yet
	Up       State = "up"        // it answers and takes writes
	Degraded State = "degraded"  // it can be used, but something is wrong: see the reasons
	ReadOnly State = "read_only" // it answers and refuses writes: a standby, or a writer that was demoted
	Down     State = "down"      // it can't be used: see the cause
	Stopped  State = "stopped"   // the monitor was stopped and knows nothing any more
)

// Usable reports whether statements can be expected to get through.
func (s State) Usable() bool { return s == Up || s == Degraded || s == ReadOnly }

// Reason says what is wrong with a database that can be used.
type Reason string

// The reasons, in the order in which they are listed.
const (
	// ReasonPoolExhausted: for a second or more all connections of the pool are in use and callers wait. The database is
	// fine; the pool is too small or connections are held too long.
	ReasonPoolExhausted Reason = "pool_exhausted"
	// ReasonPoolStuck: the same, and no connection has come back for ten seconds: its holders hang or have leaked them.
	ReasonPoolStuck Reason = "pool_stuck"
	// ReasonServerNearlyFull: less than a twentieth of the server's connection slots is free.
	ReasonServerNearlyFull Reason = "server_nearly_full"
	// ReasonServerFull: the server has no slot for a new connection; the pool's own go on working.
	ReasonServerFull Reason = "server_full"
	// ReasonConnectFailing: new connections fail while statements on the pool's own get through.
	ReasonConnectFailing Reason = "connect_failing"
)

const (
	// fallSoft is how many looks in a row must fail before the database counts as down when the evidence is soft: a timeout
	// may be a stall. Hard evidence, such as a refused connection, counts at once.
	suspectedThreshold = 2
	// riseDown is how many looks in a row must be good before a database that was down counts as usable again.
	recoveryThreshold = 2
	// slots of the server, as shares of all: scarce below the first, plenty again from the second on.
	scarceShare = 20
	plentyShare = 10
)

// hard reports whether one look that failed for this cause is proof. A timeout, a resolver that fails and what nobody
// knows may be gone in a moment.
func isConfirmed(cause pgfx.Cause) bool {
	switch cause {
	case pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown:
		return false
	default:
		return true
	}
}

// finding is what one look saw. It is all that the machine knows.
type observation struct {
	cause    pgfx.Cause // why the database did not answer; "" when it did
	server   identity   // who answered; zero when nobody or nobody knows
	readOnly bool       // it refuses writes
	slots    slots

	suspectPool       bool // what the kept connection met says that the pool's are broken too
	existingConnsWork bool // connections that exist work: the kept one answered, or the pool's statements got through meanwhile
	connected         bool // the pool has open connections
	exhausted         bool // all in use and callers waiting, for a while
	stuck             bool // and none returned, for longer
}

// identity tells one run of a server from another.
type identity struct {
	system  string    // the system identifier, shared by a primary and its standbys; "" when it can't be read
	started time.Time // when the postmaster started
}

func (i identity) isZero() bool { return i == identity{} }

// slots are the server's connection slots.
type slots struct{ used, limit int }

// scarce reports whether free slots are few; once they are, they stay so until there are plenty.
func (s slots) scarce(before bool) bool {
	if s.limit <= 0 {
		return false
	}
	share := scarceShare
	if before {
		share = plentyShare
	}
	return (s.limit-s.used)*share < s.limit
}

// verdict is what the machine concludes from a finding.
type decision struct {
	from, to State
	reasons  []Reason
	cause    pgfx.Cause // of Down, and of the reasons that have one

	reasonsChanged bool // in any direction, while the state may be the same
	serverChanged  bool // another server, or another run of it, answered than before
	roleChanged    bool // it refuses writes and took them before, or the reverse
	suspectPool    bool // the pool's connections can't be trusted
	probeSoon      bool // the next look is wanted soon
	recovering     bool // it answers again, and one more good look will confirm it
	demoted        bool // it refuses writes and once took them
}

// changed reports whether there is something to tell.
func (v decision) changed() bool { return v.from != v.to || v.reasonsChanged }

// machine judges findings. It has no clock and does no I/O: the same findings always give the same verdicts. The zero
// machine is in Starting.
type stateMachine struct {
	state       State
	reasons     []Reason
	cause       pgfx.Cause
	successes   int // looks in a row
	failures    int // looks in a row
	server      identity
	hasAnswered bool // a look has been good
	readOnly    bool // at the last good look
	wasWritable bool // it took writes at some look
}

func (m *stateMachine) current() State {
	if m.state == "" {
		return Starting
	}
	return m.state
}

// judge takes in what a look found.
func (m *stateMachine) decide(f observation) decision {
	v := decision{from: m.current()}
	before := m.reasons
	switch {
	case v.from == Stopped:
	case f.cause == "":
		m.onAnswer(f, &v)
	case v.from.Usable() && (f.existingConnsWork || f.cause == pgfx.CauseServerFull && f.connected):
		m.onConnectFailure(f)
	default:
		m.onFailure(f)
	}
	v.to, v.reasons, v.cause = m.current(), m.reasons, m.cause
	v.reasonsChanged = !slices.Equal(before, m.reasons)
	v.demoted = v.to == ReadOnly && m.wasWritable
	v.probeSoon = !v.to.Usable() || m.failures > 0 || len(m.reasons) > 0 || v.demoted
	return v
}

// stop ends all judging.
func (m *stateMachine) stop() decision {
	v := decision{from: m.current(), to: Stopped, reasonsChanged: len(m.reasons) > 0}
	m.state, m.reasons, m.cause = Stopped, nil, ""
	return v
}

// answered handles a good look.
func (m *stateMachine) onAnswer(f observation, v *decision) {
	m.failures = 0
	m.successes++
	v.suspectPool = f.suspectPool
	if !f.server.isZero() {
		v.serverChanged = !m.server.isZero() && m.server != f.server
		m.server = f.server
	}
	v.roleChanged = m.hasAnswered && m.readOnly != f.readOnly
	m.hasAnswered, m.readOnly, m.wasWritable = true, f.readOnly, m.wasWritable || !f.readOnly
	if m.state == Down && m.successes < recoveryThreshold {
		v.recovering = true
		return
	}
	scarce := f.slots.scarce(slices.Contains(m.reasons, ReasonServerNearlyFull))
	m.cause, m.reasons = "", poolReasons(f)
	if scarce {
		m.reasons = append(m.reasons, ReasonServerNearlyFull)
	}
	m.setUsableState()
}

// unreachable handles a look that failed although the pool works: there is no new connection, but those that exist do.
func (m *stateMachine) onConnectFailure(f observation) {
	m.successes = 0
	m.failures++
	if !isConfirmed(f.cause) && m.failures < suspectedThreshold {
		return
	}
	m.failures, m.cause = 0, f.cause
	reason := ReasonConnectFailing
	if f.cause == pgfx.CauseServerFull {
		reason = ReasonServerFull
	}
	m.reasons = append(poolReasons(f), reason)
	m.setUsableState()
}

// failed handles a look that failed with nothing to be said for the database.
func (m *stateMachine) onFailure(f observation) {
	m.successes = 0
	m.failures++
	if m.state == Down || isConfirmed(f.cause) || m.failures >= suspectedThreshold {
		m.state, m.cause, m.reasons = Down, f.cause, nil
	}
}

// settle picks the usable state.
func (m *stateMachine) setUsableState() {
	switch {
	case m.readOnly:
		m.state = ReadOnly
	case len(m.reasons) > 0:
		m.state = Degraded
	default:
		m.state = Up
	}
}

func poolReasons(f observation) []Reason {
	switch {
	case f.stuck:
		return []Reason{ReasonPoolStuck}
	case f.exhausted:
		return []Reason{ReasonPoolExhausted}
	}
	return nil
}
