package health

import "time"

// schedule is when the next look is due.
type schedule struct {
	last       time.Time       // when the last look began
	next       time.Time       // when the next is due, unless something happens
	lost       <-chan struct{} // closed when the kept connection is lost
	early      bool            // something has happened: next is sooner than planned
	afterEarly bool            // the last look was pulled forward
}

// leastGap keeps looks that something has triggered apart, from the second on: a server that answers once and then kills, or
// a thousand failing statements, must not make the monitor spin.
const minGap = 250 * time.Millisecond

// wait waits until the next look is due: when its time comes, or when the kept connection is lost. It returns false when
// the monitor is stopped.
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
		timer := time.NewTimer(min(time.Until(due.next), stalledCheckInterval))
		select {
		case <-m.lifetime.Done():
			timer.Stop()
			return false
		case now := <-timer.C:
			if !time.Now().Before(due.next) {
				return true
			}
			if m.stalled.isDue(now, len(m.db.Internals().StalledStatements(stalledAfter)) > 0) {
				m.mu.Lock()
				m.schedule.moveUp(confirmedGap)
				m.mu.Unlock()
			}
		case <-due.lost: // its time is worked out above
		case <-m.rescheduled:
		}
		timer.Stop()
	}
}

// replan sets when the next look is due.
func (m *Monitor) setSchedule(began time.Time, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule = schedule{last: began, next: time.Now().Add(wait), lost: m.prober.lost(), afterEarly: m.schedule.early}
	if m.signals != 0 { // while the look went on
		m.schedule.moveUp(m.signals.gap())
	}
}

// pull moves the next look forward: to now, or to gap after the last look when that was one that had been pulled forward
// too. It returns false when the next look is as soon as that anyway.
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

// reschedule makes wait think again.
func (m *Monitor) wake() {
	select {
	case m.rescheduled <- struct{}{}:
	default: // it is about to
	}
}
