package txn

// ExpireWitness makes the next transaction check the witness.
func (m *Manager) ExpireWitness() {
	if w := m.resolver.current.Load(); w != nil {
		w.checked.Store(0)
	}
}

// WitnessIsFresh reports whether there is a witness that has been checked lately.
func (m *Manager) WitnessIsFresh() bool {
	w := m.resolver.current.Load()
	return w != nil && w.checked.Load() != 0
}

// SwapWitness makes the witness look as it does when a pooler has given its connection to another session of the server.
func (m *Manager) SwapWitness() {
	w := m.resolver.current.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = w.since.Add(-1)
}
