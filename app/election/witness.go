package election

// A witness is a replica that votes and never is primary. It grants, keeps its promises, leaves in order and counts for the
// quorum like any other. It never claims, and no rule waits for its claim. SAFETY.md, "Witnesses", says why nothing
// else differs. A death that lifelines have witnessed is something else: see death.go.

// WitnessHealth is the health that each witness reports, and no other replica: by it the others recognize a witness. It is no
// field of Status, because version 1.0.0 refuses messages with fields that it does not know. That version takes a witness for a
// replica without a way to Telegram: its last choice of a successor. The text is part of the protocol and MUST NOT change.
func WitnessHealth() Health {
	return Health{Detail: "this replica is a witness: it votes, and has no way to Telegram"}
}

// IsWitness reports whether a replica votes and never is primary.
func (s Status) IsWitness() bool { return s.Health == WitnessHealth() }

// isWitness reports whether another replica is known to be a witness.
func (m *Machine) isWitness(id ReplicaID) bool {
	p, known := m.peers[id]
	return known && p.status.IsWitness()
}
