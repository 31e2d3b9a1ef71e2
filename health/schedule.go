package health

import "time"

// schedule is when the next look is due.
type schedule struct {
	last   time.Time       // when the last look began
	next   time.Time       // when the next is due, unless something happens
	lost   <-chan struct{} // closed when the kept connection is lost
	pulled bool            // something has happened: next is sooner than planned
	wary   bool            // the last look was pulled forward
}

// leastGap keeps looks that something has triggered apart, from the second on: a server that answers once and then kills, or
// a thousand failing statements, must not make the monitor spin.
const leastGap = 250 * time.Millisecond

// wait waits until the next look is due: when its time comes, or when the kept connection is lost. It returns false when
// the monitor is stopped.
func (m *Monitor) wait() bool {
	for {
		m.mu.Lock()
		due := m.schedule
		select {
		case <-due.lost:
			due.lost = nil
			m.schedule.lost = nil
			m.schedule.pull(leastGap)
			due.next = m.schedule.next
		default:
		}
		m.mu.Unlock()
		timer := time.NewTimer(min(time.Until(due.next), stallTick))
		select {
		case <-m.lifetime.Done():
			timer.Stop()
			return false
		case now := <-timer.C:
			if !time.Now().Before(due.next) {
				return true
			}
			if m.stall.see(now, len(m.db.Internals().StalledStatements(stallAfter)) > 0) {
				m.mu.Lock()
				m.schedule.pull(strongGap)
				m.mu.Unlock()
			}
		case <-due.lost: // its time is worked out above
		case <-m.kick:
		}
		timer.Stop()
	}
}

// replan sets when the next look is due.
func (m *Monitor) replan(began time.Time, wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule = schedule{last: began, next: time.Now().Add(wait), lost: m.probe.lost(), wary: m.schedule.pulled}
	if m.heard != 0 { // while the look went on
		m.schedule.pull(m.heard.gap())
	}
}

// pull moves the next look forward: to now, or to gap after the last look when that was one that had been pulled forward
// too. It returns false when the next look is as soon as that anyway.
func (s *schedule) pull(gap time.Duration) bool {
	soonest := s.last
	if s.wary || gap > strongGap {
		soonest = s.last.Add(gap)
	}
	if !soonest.Before(s.next) {
		return false
	}
	s.next, s.pulled = soonest, true
	return true
}

// reschedule makes wait think again.
func (m *Monitor) reschedule() {
	select {
	case m.kick <- struct{}{}:
	default: // it is about to
	}
}
