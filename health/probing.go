package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// run probes until the monitor is closed.
func (m *Monitor) run() {
	for first := true; ; first = false {
		_, err := m.probeUnlessRecent(m.lifetime, time.Time{})
		if first {
			close(m.firstProbe)
		}
		if errors.Is(err, ErrClosed) || !m.waitForDue() {
			return
		}
	}
}

// ProbeNow probes the database and returns the status after that. The error is that of the probe, even if this failure alone does
// not take the database down. It is nil if the server answered, and [ErrClosed] after Close. Concurrent callers share one probe.
//
// ctx bounds the wait and Config.Health.Timeout the probe. If ctx ends during the probe, the probe has no effect. ProbeNow works
// without a running monitor too: before Start, and if Config.Health.Interval is Off. Then it leaves the gate alone, because no
// later probe would open it again.
func (m *Monitor) ProbeNow(ctx context.Context) (Status, error) {
	result, err := m.probeUnlessRecent(ctx, time.Now())
	if err != nil {
		return m.Status(), err
	}
	m.wake()
	return m.Status(), result.Err
}

// probeUnlessRecent takes the turn and probes, unless another caller's probe has begun after notBefore. The error is why there
// was no probe.
func (m *Monitor) probeUnlessRecent(ctx context.Context, notBefore time.Time) (ProbeResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.lifetime, cancel)()
	select {
	case <-m.lifetime.Done():
		return ProbeResult{}, ErrClosed
	default:
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ProbeResult{}, m.interrupted(ctx)
	}
	m.mu.Lock()
	last := m.status.LastProbe
	m.mu.Unlock()
	if !notBefore.IsZero() && last.At.After(notBefore) {
		return last, nil
	}
	result, ok := m.probeOnce(ctx)
	if !ok {
		return ProbeResult{}, m.interrupted(ctx)
	}
	return result, nil
}

func (m *Monitor) interrupted(ctx context.Context) error {
	if m.lifetime.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("health: probe: %w", cmp.Or(context.Cause(ctx), pgfx.ErrSwitching))
}

// probeOnce probes the database, applies the resulting decision and publishes it. It returns false if ctx ended first. The
// caller must hold m.turn.
func (m *Monitor) probeOnce(ctx context.Context) (ProbeResult, bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	monitored, signals, knownErr := m.status.Monitored, m.signals, m.status.Err
	m.signals, m.interruptProbe = 0, cancel
	switching := m.switching
	m.mu.Unlock()
	if switching {
		return m.holdCallers(), true
	}
	before, began := m.db.Stats(), time.Now()
	login := m.currentLogin(ctx)
	outcome := m.prober.probe(ctx, m.needNewConn || signals&(connectFailed|writeRefused|writerChanged) != 0)
	if !monitored { // a connection between probes is only worth its slot if the monitor probes by itself
		m.prober.closeKept()
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a dial may return at the deadline shortly before ctx's own timer fires
	}
	if ctx.Err() != nil {
		m.setSchedule(began, confirmationDelay)
		return ProbeResult{}, false
	}
	m.noteLogin(login, outcome.cause)
	now, stats := time.Now(), m.db.Stats()
	result := ProbeResult{
		At: began, Took: now.Sub(began), Latency: outcome.latency, NewConn: outcome.newConn, Cause: outcome.cause, Err: outcome.err,
	}
	o := observation{
		cause: outcome.cause, server: outcome.server.identity(), readOnly: outcome.server.ReadOnly, slots: outcome.server.slots(),
		suspectPool:       outcome.suspectPool || m.poolOnOtherServer(now, signals, outcome),
		existingConnsWork: outcome.keptWorks || succeeded(stats) > succeeded(before),
	}
	m.poolTracker.update(now, stats, &o)
	d := m.machine.decide(o)
	m.needNewConn = d.demoted || d.cause != "" || outcome.err != nil
	p := planFor(d)
	if !monitored || errors.Is(m.db.Internals().Gate().Err(), pgfx.ErrNotStarted) { // the DB opens the gate the first time
		p.openGate, p.closeGate = false, false
	}
	p.apply(m.db, cmp.Or(outcome.err, knownErr)) // a successful probe that does not yet end Down has no error
	m.publish(d, p, result, &outcome.server)
	if outcome.err == nil && m.prober.kept != nil {
		m.releaseLocks(ctx, d.suspectPool)
	}
	m.setSchedule(began, m.backoff.next(time.Now(), d, m.poolTracker.isFull(), rand.Float64()))
	return result, true
}

// holdCallers enters Switching without a probe, because neither side of a switchover can be used.
func (m *Monitor) holdCallers() ProbeResult {
	d := m.machine.decide(observation{switching: true})
	p := planFor(d)
	p.apply(m.db, nil)
	m.publish(d, p, ProbeResult{}, nil)
	m.needNewConn = true
	m.setSchedule(time.Now(), m.interval)
	return ProbeResult{At: time.Now()}
}

// releaseLocks ends what the pool's broken connections have left behind on the server.
func (m *Monitor) releaseLocks(ctx context.Context, suspectPool bool) {
	ctx, cancel := context.WithTimeout(ctx, m.prober.timeout)
	defer cancel()
	if suspectPool {
		m.mu.Lock()
		m.suspectsBefore = time.Now()
		m.mu.Unlock()
	}
	m.abandonDead(ctx)
	if !m.prober.kept.pending { // else the server has not answered abandonDead
		m.endOrphans(ctx)
	}
}

// otherServerResetGap is the minimum time between two resets that poolOnOtherServer causes. An application that writes in
// read-only transactions gets the same error.
const otherServerResetGap = time.Minute

// poolOnOtherServer reports whether the pool is probably connected to another server than the monitor. The evidence is that
// statements of the pool were rejected as read-only, while the monitor is connected to a writer.
func (m *Monitor) poolOnOtherServer(now time.Time, signals signal, outcome probeOutcome) bool {
	if signals&writeRefused == 0 || outcome.err != nil || outcome.server.ReadOnly || now.Sub(m.otherServerResetAt) < otherServerResetGap {
		return false
	}
	m.otherServerResetAt = now
	return true
}

func succeeded(stats pgfx.Stats) int64 { return stats.Statements.Count - stats.Statements.Errors }

// publish updates the status, and logs and sends the transition if there is one. The caller must hold m.turn.
func (m *Monitor) publish(d decision, p recoveryPlan, result ProbeResult, server *Server) {
	m.mu.Lock()
	now := time.Now()
	t := Transition{
		Database: m.status.Database, From: d.from, To: d.to, At: now, Lasted: now.Sub(m.status.Since),
		Cause: d.cause, Reasons: d.reasons, Reset: p.reset,
	}
	if d.cause != "" {
		t.Err = cmp.Or(result.Err, m.status.Err) // as in probeOnce
	}
	s := &m.status
	s.State, s.Cause, s.Reasons, s.Err, s.Demoted = d.to, d.cause, d.reasons, t.Err, d.demoted
	if d.from != d.to {
		s.Since, s.Transitions = now, incremented(s.Transitions, d.to)
	}
	if !result.At.IsZero() {
		s.LastProbe = result
		if result.Err == nil {
			s.LastGood, s.Server = result.At, *server
		}
	}
	if p.reset != "" {
		s.Resets++
		s.LastReset, s.ResetsByReason = p.reset, incremented(s.ResetsByReason, p.reset)
	}
	if d.changed() {
		s.History = appendHistory(s.History, t)
	}
	m.mu.Unlock()

	switch {
	case d.changed():
		var holders []pgfx.Lease
		if len(d.reasons) > 0 && (d.reasons[0] == ReasonPoolExhausted || d.reasons[0] == ReasonPoolStalled) {
			holders = oldest(m.db.Leases())
		}
		logTransition(m.logger, t, p, holders)
		m.hub.publish(t)
	case p.reset != "":
		m.logger.Warn("pool reset", zap.String("reset", string(p.reset)))
	}
}

// oldest returns the leases that a log line lists.
func oldest(leases []pgfx.Lease) []pgfx.Lease { return leases[:min(len(leases), 3)] }
