package diagnosis

import "habot/app/election"

// Role is what a replica is, for people: a witness is called one, whatever it does in the election.
func Role(s election.Status) string {
	switch {
	case !s.IsWitness():
		return string(s.Role)
	case s.Role == election.Standby:
		return "witness"
	default:
		return "witness, " + string(s.Role)
	}
}

// Witnesses are the names of the witnesses in contact, this replica included.
func Witnesses(v election.View) []string {
	var names []string
	for _, p := range Replicas(v) {
		if p.Reachable && p.Status.IsWitness() {
			names = append(names, p.Status.Name)
		}
	}
	return names
}

// candidates are the replicas in contact that are, or can become, primary.
func candidates(v election.View) []election.Status {
	var all []election.Status
	for _, p := range Replicas(v) {
		if p.Reachable && !p.Status.IsWitness() {
			all = append(all, p.Status)
		}
	}
	return all
}
