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
