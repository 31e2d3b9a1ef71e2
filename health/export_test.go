package health

import (
	"context"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// NextProbe returns when the next probe is due, unless something happens.
func (m *Monitor) NextProbe() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.schedule.next
}

// EndBackends ends backends over the monitor's connection, as for orphans, and returns their number.
func (m *Monitor) EndBackends(ctx context.Context, backends ...pgfx.Backend) (int, error) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	return m.prober.kept.endBackends(ctx, backends)
}
