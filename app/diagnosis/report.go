package diagnosis

import "time"

// Report tells which verdicts are worth a line of the log: those that stay. Its zero value has reported nothing. It is
// not safe for concurrent use.
type Report struct {
	reported, state State
	since           time.Time
}

// Observe takes in the verdict at now and returns whether it is to be reported. Times MUST NOT go back. A takeover, or a
// start, is over before a verdict counts as one that stays; a replica that finds all well when it starts reports that at once.
func (r *Report) Observe(now time.Time, v Verdict, lease time.Duration) bool {
	if v.State != r.state {
		r.state, r.since = v.State, now
	}
	stays := now.Sub(r.since) >= 3*time.Second+3*lease || r.reported == "" && v.OK()
	if v.State == r.reported || !stays {
		return false
	}
	r.reported = v.State
	return true
}
