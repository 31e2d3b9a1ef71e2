package cutover

import (
	"context"
	"time"
)

// Kill ends the background work of a mover as the end of its process does: its lease stays.
func (m *Mover[V]) Kill() {
	m.mu.Lock()
	if m.end != nil {
		m.end()
	}
	m.mu.Unlock()
	m.running.Wait()
}

// Observed returns the phase and the epoch that this process has observed, and whether writers are held.
func (m *Mover[V]) Observed() (phase Phase, epoch int64, held bool) {
	v := m.view.Load()
	if v == nil {
		return Off, 0, false
	}
	return v.phase, v.epoch, v.held
}

// HoldPolling keeps this process from reading the state, as if it hung, until the returned function is called.
func (m *Mover[V]) HoldPolling() (resume func()) {
	m.polling <- struct{}{}
	return func() { <-m.polling }
}

// ExpireLease ends the lease of this process now, as if it had hung for so long. Call it while polling is held.
func (m *Mover[V]) ExpireLease(ctx context.Context) error {
	v := *m.view.Load()
	v.validUntil = time.Now()
	m.view.Store(&v)
	_, err := m.tx.Exec(ctx, "update rdsfx_cutover_processes set expires = clock_timestamp() where name = $1 and id = $2", m.name, m.id)
	return err
}

// Sync copies keys from the old store to PostgreSQL, as a writer that has hung since its write to the old store does.
func (m *Mover[V]) Sync(ctx context.Context, keys ...string) error { return m.sync(ctx, keys) }

// ErrOtherPrimary exports errOtherPrimary.
var ErrOtherPrimary = errOtherPrimary
