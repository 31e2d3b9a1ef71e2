package health

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// signal is a set of flags: what the errors of the pool indicate about the database. Signals decide nothing; they cause a
// probe.
type signal uint8

const (
	// suspected: something took too long, which may have many reasons.
	suspected signal = 1 << iota
	// confirmed: a connection broke, or the server reported that it is in trouble.
	confirmed
	// connectFailed: a new connection failed, whatever happens on the old ones.
	connectFailed
	// writeRefused: a statement ran into a read-only transaction. Either the application asked for one, or the server was
	// demoted.
	writeRefused
	// writerChanged: new connections lead to another server than before.
	writerChanged
)

// The minimum times between two probes that signals cause. A thousand errors cost one probe.
const (
	confirmedGap = minGap
	suspectedGap = time.Second
)

// signalOf classifies an error of the pool. It returns 0 if the error indicates nothing.
func signalOf(err error) signal {
	code := sqlstate.Code(err)
	switch {
	case code == sqlstate.ReadOnlySQLTransaction:
		return confirmed | writeRefused
	case code == "" && (errors.Is(err, context.Canceled) || errors.Is(err, pgfx.ErrUnavailable)):
		return 0
	}
	var s signal
	switch pgfx.CauseOf(err) {
	case pgfx.CauseNone, pgfx.CauseUnknown:
		return 0
	case pgfx.CauseTimeout:
		s = suspected
	default:
		s = confirmed
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		s |= connectFailed
	}
	return s
}

// gap returns the minimum time between the last probe and the one that s causes.
func (s signal) gap() time.Duration {
	if s&confirmed != 0 {
		return confirmedGap
	}
	return suspectedGap
}

// recordFailure receives each error of the pool.
func (m *Monitor) recordFailure(err error) {
	s := signalOf(err)
	if s == 0 {
		return
	}
	m.mu.Lock()
	sooner := false
	if s&connectFailed == 0 || m.status.Cause == "" { // a Cause means that failing connects are known, and backoff applies
		m.signals |= s
		sooner = m.schedule.moveUp(s.gap())
	}
	m.mu.Unlock()
	if sooner {
		m.wake()
	}
}

// recordTopology receives each view of the cluster. If another instance has become the writer, the next probe opens a connection,
// which leads there. If a Blue/Green switchover begins or ends, the next probe acts on it.
func (m *Monitor) recordTopology(t pgfx.Topology) {
	m.mu.Lock()
	switching := t.BlueGreen != nil && t.BlueGreen.Switching
	changed := t.Changes != m.topologyChanges || switching != m.switching
	if switching != m.switching && m.interruptProbe != nil {
		m.interruptProbe() // it may wait for a server that has just gone
	}
	m.topologyChanges, m.switching = t.Changes, switching
	if changed {
		m.signals |= writerChanged
		m.schedule.moveUp(0)
	}
	m.mu.Unlock()
	if changed {
		m.wake()
	}
}
