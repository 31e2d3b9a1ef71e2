package txn

// ExpireWitness makes the next transaction check the witness.
func (m *Manager) ExpireWitness() {
	if w := m.resolver.witness.Load(); w != nil {
		w.checked.Store(0)
	}
}

// HasCheckedWitness reports whether there is a witness that was checked since it was opened or ExpireWitness was called.
func (m *Manager) HasCheckedWitness() bool {
	w := m.resolver.witness.Load()
	return w != nil && w.checked.Load() != 0
}

// MoveWitness makes the witness look as if a pooler had moved its connection to another session of the server.
func (m *Manager) MoveWitness() {
	w := m.resolver.witness.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = w.started.Add(-1)
}

// RollbackNames exports rollbackNames.
var RollbackNames = rollbackNames

// LeaderLossTime is the time within which a leader notices that it has lost its connection.
const LeaderLossTime = leaderCheck + leaderCheckTimeout
