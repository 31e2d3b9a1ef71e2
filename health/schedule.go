package health

import "time"

// schedule holds the time of the next probe.
type schedule struct {
	last       time.Time       // when the last probe began
	next       time.Time       // when the next probe is due, unless something happens
	lost       <-chan struct{} // closed when the kept connection is lost
	early      bool            // next was moved up because something has happened
	afterEarly bool            // the last probe had been moved up
}

// minGap is the minimum time between two probes that something has caused, from the second one on. A server that answers once
// and then kills the connection, or a thousand failing statements, must not make the monitor probe without pause.
const minGap = 250 * time.Millisecond

// checkInterval is how often the monitor checks, without the database, whether there is a reason to probe.
const checkInterval = 100 * time.Millisecond

// waitForDue waits until the next probe is due: at its time, or when the kept connection is lost. It returns false when the
// monitor is closed.
func (m *Monitor) waitForDue() bool {
	for {
		m.mu.Lock()
		due := m.schedule
		select {
		case <-due.lost:
			due.lost = nil
			m.schedule.lost = nil
			m.schedule.moveUp(minGap)
			due.next = m.schedule.next
		default:
		}
		m.mu.Unlock()
		timer := time.NewTimer(min(time.Until(due.next), checkInterval))
		select {
		case <-m.lifetime.Done():
			timer.Stop()
			return false
		case now := <-timer.C:
			if !time.Now().Before(due.next) {
				return true
			}
			stalled := m.stalled.isDue(now, len(m.db.Internals().StalledStatements(stalledAfter)) > 0)
			if stalled || m.hasSuspects(now) || m.hasOrphans() || m.credentialsChanged(now) {
				m.mu.Lock()
				m.schedule.moveUp(confirmedGap)
				m.mu.Unlock()
			}
		case <-due.lost: // the next iteration moves the probe up
		case <-m.rescheduled:
		}
		timer.Stop()
	}
}

// setSchedule plans the next probe after one that began at the given time.
func (m *Monitor) setSchedule(began time.Time, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule = schedule{last: began, next: time.Now().Add(wait), lost: m.prober.lost(), afterEarly: m.schedule.early}
	if m.signals != 0 { // received during the probe
		m.schedule.moveUp(m.signals.gap())
	}
}

// moveUp plans the next probe for now. If the last probe had been moved up too, or for a longer gap than confirmedGap, it plans
// it for gap after the last probe. It returns false if the next probe is not later than that anyway.
func (s *schedule) moveUp(gap time.Duration) bool {
	soonest := s.last
	if s.afterEarly || gap > confirmedGap {
		soonest = s.last.Add(gap)
	}
	if !soonest.Before(s.next) {
		return false
	}
	s.next, s.early = soonest, true
	return true
}

// wake makes waitForDue read the schedule again.
func (m *Monitor) wake() {
	select {
	case m.rescheduled <- struct{}{}:
	default: // it is about to
	}
}

const (
	// confirmationDelay is the wait before the probe that confirms a recovery.
	confirmationDelay = 20 * time.Millisecond
	// minDelay is the longest wait between two probes when a problem begins.
	minDelay = 140 * time.Millisecond
	// outageShare is the share of an outage's duration that the wait may take: after 14 s it grows, after 80 s it is maxDelay.
	outageShare = 100
	// maxDelay is the longest wait during an outage that may end at any moment.
	maxDelay = 800 * time.Millisecond
	// maxSlowDelay is the longest wait while the database is usable, or while the server refuses the login.
	maxSlowDelay = 5 * time.Second
)

// backoff computes the wait before the next probe.
type backoff struct {
	interval time.Duration
	since    time.Time // when the present state began
	attempts int       // probes since the present problem began
}

// next returns the wait after a probe that ended now. soon requests an early probe for a reason outside the state machine.
// random, from 0 to 1, spreads the probes of many processes.
func (b *backoff) next(now time.Time, d decision, soon bool, random float64) time.Duration {
	if d.from != d.to {
		b.since, b.attempts = now, 0
	}
	wait, spread := b.interval, b.interval/10
	switch {
	case d.recovering:
		wait, spread = confirmationDelay, 0
	case d.mayEndAtAnyMoment():
		wait = min(max(now.Sub(b.since)/outageShare, minDelay), maxDelay)
		spread = wait / 10 // at most 8 probes a second, each with two dials if one without TLS follows one with TLS
	case d.probeSoon || soon:
		wait = min(minDelay<<min(b.attempts, 10), maxSlowDelay)
		b.attempts++
		spread = wait / 2
	default:
		b.attempts = 0
	}
	return min(wait, b.interval) - time.Duration(random*float64(min(spread, b.interval)))
}
