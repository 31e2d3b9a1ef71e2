package health

import "time"

// NextProbe returns when the next probe is due, unless something happens.
func (m *Monitor) NextProbe() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.schedule.next
}
