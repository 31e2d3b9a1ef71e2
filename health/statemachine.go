package health

import (
	"slices"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	// suspectedThreshold is how many probes in a row must fail before a suspected failure takes the database down: a timeout
	// may be a short stall. A confirmed failure, such as a refused connection, takes it down at once.
	suspectedThreshold = 2
	// recoveryThreshold is how many probes in a row must succeed before a database that was down is usable again.
	recoveryThreshold = 2
	// Connection slots are scarce when fewer than 1/scarceShare of them are free, until 1/plentyShare are free again.
	scarceShare = 20
	plentyShare = 10
)

// isConfirmed reports whether one failed probe with this cause is enough. A timeout, a resolver error and an unknown error may
// be over in a moment.
func isConfirmed(cause pgfx.Cause) bool {
	switch cause {
	case pgfx.CauseTimeout, pgfx.CauseDNS, pgfx.CauseUnknown:
		return false
	default:
		return true
	}
}

// observation is the result of one probe, together with what the pool's statistics show. It is the only input of the state
// machine.
type observation struct {
	cause    pgfx.Cause // why the probe failed; "" if it succeeded
	server   identity   // of the server that answered; zero if unknown
	readOnly bool       // the server rejects writes
	slots    slots

	switching bool // a Blue/Green switchover is in progress; the probe was left out

	suspectPool       bool // the monitor's connection failed in a way that the pool's connections probably share
	existingConnsWork bool // the monitor's old connection answered, or statements of the pool succeeded during the probe
	connected         bool // the pool has open connections
	exhausted         bool // all of them have been in use, with callers waiting, for exhaustedAfter
	stalled           bool // and none has been released for poolStalledAfter
}

// identity distinguishes servers, and one run of a server from the next.
type identity struct {
	system  string    // the system identifier, which a primary and its standbys share; "" if it cannot be read
	started time.Time // when the postmaster started
}

func (i identity) isZero() bool { return i == identity{} }

// slots counts the server's connection slots.
type slots struct{ used, limit int }

// scarce reports whether few slots are free. before is its previous result: leaving the state takes more free slots than
// entering it, so that it does not flap.
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

// decision is what the state machine concludes from an observation.
type decision struct {
	from, to State
	reasons  []Reason
	cause    pgfx.Cause // of Down, and of those reasons that have a cause

	reasonsChanged bool // the state may be the same
	serverChanged  bool // another server answered than before, or another run of it
	roleChanged    bool // the server rejects writes and accepted them before, or the reverse
	suspectPool    bool // the pool's connections are probably broken
	probeSoon      bool // the next probe must not wait for the interval
	recovering     bool // the server answers again; the next successful probe confirms it
	demoted        bool // the server rejects writes and has accepted them before
}

// changed reports whether the decision has to be published.
func (d decision) changed() bool { return d.from != d.to || d.reasonsChanged }

// stateMachine turns observations into decisions. It has no clock and does no I/O, so the same observations always lead to the
// same decisions. The zero value is in Starting.
type stateMachine struct {
	state       State
	reasons     []Reason
	cause       pgfx.Cause
	successes   int // probes in a row
	failures    int // probes in a row
	server      identity
	hasAnswered bool // a probe has succeeded
	readOnly    bool // at the last successful probe
	wasWritable bool // at any successful probe
}

func (m *stateMachine) current() State {
	if m.state == "" {
		return Starting
	}
	return m.state
}

// decide applies an observation.
func (m *stateMachine) decide(o observation) decision {
	d := decision{from: m.current()}
	before := m.reasons
	switch {
	case d.from == Stopped:
	case o.switching:
		m.state, m.cause, m.reasons, m.failures, m.successes = Switching, "", nil, 0, 0
	case o.cause == "":
		m.onSuccess(o, &d)
	case d.from.Usable() && (o.existingConnsWork || o.cause == pgfx.CauseServerFull && o.connected):
		m.onConnectFailure(o)
	default:
		m.onFailure(o)
	}
	d.to, d.reasons, d.cause = m.current(), m.reasons, m.cause
	d.reasonsChanged = !slices.Equal(before, m.reasons)
	d.demoted = d.to == ReadOnly && m.wasWritable
	d.probeSoon = !d.to.Usable() || m.failures > 0 || len(m.reasons) > 0 || d.demoted
	return d
}

// stop enters Stopped, which no observation leaves.
func (m *stateMachine) stop() decision {
	d := decision{from: m.current(), to: Stopped, reasonsChanged: len(m.reasons) > 0}
	m.state, m.reasons, m.cause = Stopped, nil, ""
	return d
}

// onSuccess applies a successful probe.
func (m *stateMachine) onSuccess(o observation, d *decision) {
	m.failures = 0
	m.successes++
	d.suspectPool = o.suspectPool
	if !o.server.isZero() {
		d.serverChanged = !m.server.isZero() && m.server != o.server
		m.server = o.server
	}
	d.roleChanged = m.hasAnswered && m.readOnly != o.readOnly
	m.hasAnswered, m.readOnly, m.wasWritable = true, o.readOnly, m.wasWritable || !o.readOnly
	if m.state == Down && m.successes < recoveryThreshold {
		d.recovering = true
		return
	}
	scarce := o.slots.scarce(slices.Contains(m.reasons, ReasonServerNearlyFull))
	m.cause, m.reasons = "", poolReasons(o)
	if scarce {
		m.reasons = append(m.reasons, ReasonServerNearlyFull)
	}
	m.setUsableState()
}

// onConnectFailure applies a failed probe of a database whose existing connections work.
func (m *stateMachine) onConnectFailure(o observation) {
	m.successes = 0
	m.failures++
	if !isConfirmed(o.cause) && m.failures < suspectedThreshold {
		return
	}
	m.failures, m.cause = 0, o.cause // if the existing connections fail next, that counts from the first failure
	reason := ReasonConnectFailing
	if o.cause == pgfx.CauseServerFull {
		reason = ReasonServerFull
	}
	m.reasons = append(poolReasons(o), reason)
	m.setUsableState()
}

// onFailure applies a failed probe when nothing else shows that the database works.
func (m *stateMachine) onFailure(o observation) {
	m.successes = 0
	m.failures++
	if m.state == Down || isConfirmed(o.cause) || m.failures >= suspectedThreshold {
		m.state, m.cause, m.reasons = Down, o.cause, nil
	}
}

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

// poolReasons returns the reason that the pool's statistics give, nil if they give none.
func poolReasons(o observation) []Reason {
	switch {
	case o.stalled:
		return []Reason{ReasonPoolStalled}
	case o.exhausted:
		return []Reason{ReasonPoolExhausted}
	}
	return nil
}
