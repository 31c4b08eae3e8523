package main

import (
	"path"
	"path/filepath"
	"slices"
)

// mutant is one broken rule.
type mutant struct {
	rule  string
	edits []edit
}

// pkg is the package that the rule belongs to.
func (m mutant) pkg() string { return "./app/" + path.Dir(m.edits[0].file) }

// edit replaces a text that occurs once in a file below app.
type edit struct{ file, old, new string }

func (e edit) path(dir string) string { return filepath.Join(dir, "app", filepath.FromSlash(e.file)) }

func candidate(rule, from, to string) mutant { return in("election/candidate.go", rule, from, to) }

func follow(rule, from, to string) mutant { return in("election/follow.go", rule, from, to) }

func grant(rule, from, to string) mutant { return in("election/grant.go", rule, from, to) }

func primary(rule, from, to string) mutant { return in("election/primary.go", rule, from, to) }

func promise(rule, from, to string) mutant { return in("election/promise.go", rule, from, to) }

func size(rule, from, to string) mutant { return in("election/size.go", rule, from, to) }

func machine(rule, from, to string) mutant { return in("election/machine.go", rule, from, to) }

func leave(rule, from, to string) mutant { return in("election/leave.go", rule, from, to) }

func many(rule, from, to string) mutant { return in("election/many.go", rule, from, to) }

func death(rule, from, to string) mutant { return in("election/death.go", rule, from, to) }

func config(rule, from, to string) mutant { return in("election/config.go", rule, from, to) }

func in(file, rule, from, to string) mutant { return mutant{rule, []edit{{file, from, to}}} }

// all are the rules of the election and of turns, broken one at a time.
func all() []mutant { return slices.Concat(mutants, turns()) }

// mutants are the rules of the election.
var mutants = []mutant{
	// Joining.
	config("no joining silence", "{ return c.Lease + c.Lease/DriftBound }", "{ return 0 }"),
	config("joining silence without the drift bound", "{ return c.Lease + c.Lease/DriftBound }", "{ return c.Lease }"),
	grant("grants at once after a restart", "case m.now < m.joinedAt: //", "case false: //"),
	grant("grants when it leaves before it has joined", "case m.now < m.joinedAt: //", "case m.role == Joining: //"),

	// Counting acknowledgements.
	candidate("acknowledgement counted from its receipt",
		"sentAt.Add(m.cfg.GrantedFor()))", "m.now.Add(m.cfg.GrantedFor()))"),
	config("acknowledgement counted without the drift bound", "{ return c.Lease - c.Lease/DriftBound }", "{ return c.Lease }"),
	candidate("failed renewal moves the deadline", "	m.round++\n",
		"	for id := range m.acks {\n		m.acks[id] = m.now.Add(m.cfg.GrantedFor())\n	}\n	m.round++\n"),
	candidate("refusal counted as an acknowledgement", "		if a.Granted {\n			delete(", "		if a.Granted || m.role == Primary {\n			delete("),
	candidate("late answer takes an acknowledgement back",
		"max(m.acks[a.From.Replica], sentAt.Add(m.cfg.GrantedFor()))", "sentAt.Add(m.cfg.GrantedFor())"),
	candidate("each answer counts, also two of one replica",
		"m.acks[a.From.Replica] = max(", "m.acks[a.From.Replica+ReplicaID(rune('a'+len(m.acks)))] = max("),
	in("node/sender.go", "acknowledgements counted by address", "		s.met(a.From.Replica, addr)\n",
		"		s.met(a.From.Replica, addr)\n		a.From.Replica = election.ReplicaID(addr)\n"),
	in("node/sender.go", "acknowledgement counted from when its answer came",
		"			s.n.step(election.AnswerReceived{Answer: a, SentAt: sentAt})", "			s.n.step(election.AnswerReceived{Answer: a, SentAt: s.n.cfg.Clock.Read().Now + 0*sentAt})"),
	candidate("majority off by one", "	q := m.quorum()\n", "	q := max(1, m.quorum()-1)\n"),
	size("majority is half", "return m.expected()/2 + 1", "return (m.expected() + 1) / 2"),
	candidate("deadline is the latest expiry", "return ends[len(ends)-q], true", "return ends[len(ends)-1], true"),
	candidate("answers to a withdrawn claim counted", "if a.Claim == m.own && !m.own.IsZero() {", "if !m.own.IsZero() {"),
	candidate("grants of a mismatched replica counted", "	if m.mismatched(a.From) {\n		m.deferTo(a.From)\n", "	if m.mismatched(a.From) && !a.Granted {\n		m.deferTo(a.From)\n"),

	// Granting.
	grant("candidate grants without withdrawing", "		m.withdraw(ElectionYielded)\n		a.Granted = above(c, m.promise.floor())", "		a.Granted = true"),
	grant("higher timestamp wins among candidates", "m.role == Candidate && c.Compare(m.own) < 0:", "m.role == Candidate && c.Compare(m.own) > 0:"),
	grant("primary grants another", "case m.role == Primary || (", "case m.role != Primary && ("),
	grant("promise ignored", "m.promise.held != c && m.now < m.promise.until)", "false)"),
	grant("promise shorter than the lease", "m.promise.give(c, m.now.Add(m.cfg.Lease))", "m.promise.give(c, m.now.Add(m.cfg.Lease/2))"),
	candidate("own promise ignored when claiming", "at := max(m.claimAt, m.promise.until)", "at := m.claimAt"),
	grant("other lease granted", "case req.From.Lease != m.cfg.Lease:", "case false:"),
	grant("other protocol granted", "case !Speaks(req.From.Protocol):", "case false:"),

	// The floor.
	{"floor ignored", []edit{
		{"election/grant.go", "case !above(c, m.promise.base) && !renews:", "case false && !renews:"},
		{"election/grant.go", "case !above(c, m.promise.floor()) && !renews:", "case false && !renews:"},
		{"election/grant.go", "a.Granted = above(c, m.promise.floor())", "a.Granted = true"},
	}},
	promise("floor not raised by a grant", "		p.raise(p.held)\n		p.held = c", "		p.held = c"),
	promise("floor not raised by a release", "	if released {\n		p.raise(c)", "	if false {\n		p.raise(c)"),
	follow("floor not raised by a primary that is in contact", "		m.promise.raise(s.Primary)\n", ""),
	follow("floor raised by hearsay", "	if direct {\n		m.promise.raise", "	if true {\n		m.promise.raise"),
	promise("floor not restored by a withdrawal", "	if released {\n		p.raise(c)", "	if true {\n		p.raise(c)"),
	promise("floor lowered by a grant", "	if c.Compare(p.base) > 0 {\n		p.base = c", "	if true {\n		p.base = c"),
	promise("floors compared without the replica", "return c.Timestamp > f.Timestamp || c == f", "return c.Timestamp >= f.Timestamp"),
	promise("floor's own claim not renewed", "return c.Timestamp > f.Timestamp || c == f", "return c.Timestamp > f.Timestamp"),

	grant("primary that is followed does not renew under a higher floor", "renews := promised || (c == m.last.claim && m.following())", "renews := promised"),
	grant("a primary's promise is not renewed under a higher floor", "renews := promised || (", "renews := (promised && false) || ("),
	grant("a candidate's promise is renewed under a higher floor", " && req.From.Role == Primary && req.From.Primary == c\n", "\n"),

	// Claims that have ended.
	promise("ended claims forgotten", "return c.Timestamp <= p.ended[c.Replica] }", "return false }"),
	promise("only the very claim that ended is remembered", "return c.Timestamp <= p.ended[c.Replica] }", "return c.Timestamp == p.ended[c.Replica] }"),
	promise("withdrawal leaves the promise", "		p.held, p.until = Claim{}, 0", "		p.held = c"),
	candidate("withdrawal not sent", "	m.emit(SendEnd{EndRequest{From: m.status(), Claim: c}})\n", ""),
	grant("any replica may end a claim", "|| c.Replica != req.From.Replica {", "{"),

	// Claiming.
	candidate("timestamp reused after a withdrawal", "max(m.wall, m.floorSeen+1, m.lastOwn+1)", "max(m.wall, m.floorSeen+1)"),
	candidate("timestamp not above the floor", "max(m.wall, m.floorSeen+1, m.lastOwn+1)", "max(m.wall, m.lastOwn+1)"),
	candidate("claims while it follows a primary", "		at = max(at, m.last.until)\n", ""),
	follow("candidate ignores a primary", "	if m.role == Candidate {\n		m.withdraw(ElectionYielded)\n	}\n	if m.role == Looking", "	if m.role == Looking"),
	candidate("candidate does not yield to lower promises", "\t\t\tm.yieldIfHopeless()\n", ""),
	machine("candidate never gives up", "case m.now >= m.ownSince.Add(m.patience()):", "case false:"),
	candidate("candidate that reaches a quorum waits like one that does not", " && len(m.reached)+1 < m.quorum() {", " {"),
	candidate("candidate that cannot reach a quorum does not wait", "m.expected() > m.cfg.Replicas && len(m.reached)+1 < m.quorum() {", "false {"),
	candidate("unhealthy standby does not wait", "	if !m.health.OK {\n		// Let", "	if false {\n		// Let"),
	candidate("named successor waits like the others", "	if m.nominated || m.inTurn && m.health.OK {\n		return at\n	}\n", ""),
	candidate("others do not hold back for a successor", "		at = max(at, m.holdUntil)\n", ""),
	grant("named successor holds back", "req.Successor != \"\" && !m.nominated && m.stays(", "req.Successor != \"\" && m.stays("),

	// Among many.
	many("one of many asks all at once", "	return max(1, (m.expected()-1+atOnce-1)/atOnce)\n", "	return 1\n"),
	many("one of many looks as often as one of few", "return time.Duration(max(2, m.rounds())) * m.cfg.pollInterval() / 2", "return m.cfg.pollInterval()"),
	many("one of many is missed before it can have been asked", "	if m.role == Primary {\n		rounds = 1", "	if true {\n		rounds = 1"),
	many("primary of many misses others as late as a standby", "	if m.role == Primary {\n		rounds = 1", "	if false {\n		rounds = 1"),
	primary("others count as lost when a primary of many steps down", "	m.hearSeldom()\n", ""),
	candidate("primary that is missed is not asked", "	if missed && !m.last.over {\n", "	if false {\n"),
	candidate("many claim at once", "	return at.Add(m.spread())\n", "	return at\n"),
	many("few claim one after the other", "	if m.expected() <= few {\n		return 0\n	}\n", ""),
	many("one of many waits for more than can be gone", "min(before, m.expected()-m.quorum())", "before"),
	many("one of many does not guess at those it has not met", "	before += int(float64(max(0, unheard)) * own)\n", ""),
	many("one of many waits for those that do not claim", "first && id != m.last.claim.Replica && p.status.Role != Leaving && ", "first && "),
	in("node/sender.go", "answer that comes late is given up", "return max(patience, s.n.cfg.Election.QueryTimeout())", "return s.n.cfg.Election.QueryTimeout()"),
	in("node/sender.go", "below a majority one that hangs is waited for", "time.AfterFunc(s.n.cfg.Election.QueryTimeout(), done)", "time.AfterFunc(s.bound(), done)"),

	// Following.
	follow("hearsay in requests followed", "	case !direct:\n		return\n", ""),
	follow("answer counts from its receipt", "		remaining -= m.now.Sub(in.sentAt)\n", ""),
	follow("released primary followed again", "s.Remaining <= 0 || m.hasEnded(s.Primary) {", "s.Remaining <= 0 {"),
	follow("older primary followed", "		return a.Compare(b) > 0\n", "		return false\n"),

	// Being primary.
	candidate("bot starts without a lease", "	m.emit(ExtendLease{WorkUntil: m.workUntil(), LeaseEnd: m.leaseEnd})\n	m.emit(StartWork", "	m.emit(StartWork"),
	primary("renewal that failed not sent again", "	if m.now >= m.sendAt {\n		m.sendClaim(m.cfg.Resend())\n	}\n", "	if m.now >= m.sendAt {\n		m.sendClaim(m.cfg.Heartbeat())\n	}\n"),
	primary("renewal sent again though a quorum has granted it", "	if end >= m.roundAt.Add(m.cfg.GrantedFor()) {\n", "	if false {\n"),
	primary("grants of an earlier round keep a renewal from being sent again", "	if end >= m.roundAt.Add(m.cfg.GrantedFor()) {\n", "	if true {\n"),
	grant("yielding candidate claims again at once", "		m.claimAt = max(m.claimAt, m.now.Add(m.cfg.Retry()))\n", ""),
	primary("no renewal", "	if m.now >= m.sendAt {\n		m.sendClaim(m.cfg.Resend())\n	}\n", ""),
	primary("no stop margin", "return m.leaseEnd.Add(-m.cfg.StopMargin()) }", "return m.leaseEnd }"),
	candidate("wins though the stop margin has begun", "!ok || m.now >= end.Add(-m.cfg.StopMargin())", "!ok || m.now >= end"),
	primary("no halt", "			m.emit(Halt{m.reason})\n", ""),
	primary("frozen process has no time to stop", "return max(m.leaseEnd, m.silentBy) }", "return m.leaseEnd }"),
	primary("lease extended while the bot falls silent", "end == m.leaseEnd || m.hard {", "end == m.leaseEnd {"),
	primary("release before the work has stopped", "	m.emit(StopWork{Drain: drain, Reason: why})\n",
		"	m.emit(StopWork{Drain: drain, Reason: why})\n	m.onWorkStopped()\n"),
	in("node/work.go", "release before the work has ended", "		return\n	}\n	t.cancel()\n}", "		return\n	}\n	t.cancel()\n	n.step(election.WorkStopped{})\n}"),
	in("node/work.go", "lease not checked after a freeze, before a request",
		"n.working.Load() == number && n.cfg.Clock.Read().Now < election.Instant(n.workUntil.Load())", "n.working.Load() == number"),
	in("telegram/transport.go", "lease not checked before a request leaves", "		if !held() {", "		if false {"),
	{"lease not checked after a freeze, while a request leaves", []edit{
		{"telegram/transport.go", "	if !b.held() {\n", "	if false {\n"},
		{"telegram/transport.go", "	if !b.held() { // it", "	if false { // it"},
	}},
	in("telegram/short.go", "lease not checked after a freeze, when a short request leaves", "	if s.held.held() {\n", "	if true {\n"),
	in("queues/queues.go", "lease not checked after a freeze, before an update is handled",
		"ctx.Err() != nil || !q.cfg.Held() {\n		return false\n", "ctx.Err() != nil {\n		return false\n"),
	primary("lease not checked after a freeze, by the machine", "	case m.now >= m.workUntil():\n		m.resign(ReasonLeaseLost, \"\", false)\n		return\n	}\n", "	}\n"),
	primary("draining bot outlives its lease", "(m.stopping && drain)", "m.stopping"),
	primary("hands over to no named successor", "		m.successor = m.chooseSuccessor(false)\n", ""),
	primary("hands over to one that has not granted", "p.leaves || m.acks[id] <= m.now || ", "p.leaves || m.acks[id] < 0 || "),
	primary("unhealthy primary hands over to any standby", "m.chooseSuccessor(true); id", "m.chooseSuccessor(false); id"),
	primary("unhealthy primary hands over to a process that has just started", " || m.now.Sub(p.since) < m.cfg.HealthSettles) {", ") {"),
	follow("unhealthy primary hands over to a process that has just woken", "		if m.now.Sub(before.heard) <= before.within {\n			since", "		if true {\n			since"),
	follow("unhealthy primary does not hand over to a standby in steady contact", "		since = before.since\n", "		_ = before.since\n"),
	in("reach/tracker.go", "new primary is judged by what probes said", "func (t *tracker) roleBegan() { t.polling = true }", "func (t *tracker) roleBegan() {}"),
	primary("unhealthy primary stays", "if !m.health.OK && !m.stopping {", "if false {"),
	primary("healthy successor not preferred", "		return a.Health.OK\n", "		return !a.Health.OK\n"),

	// Leaving.
	candidate("claims while it leaves", "	if m.leave.begun {\n		m.becomeLeaving()\n		return\n	}\n	m.role = Looking", "	m.role = Looking"),
	leave("leaves as primary", "	case Primary:\n		if urgent", "	case Looking:\n		if urgent"),
	leave("does not wait for a successor", "		m.leave.leftAt = m.now.Add(m.cfg.successorWait())\n", ""),
	grant("standby that leaves does not wait for a successor", "		m.leave.awaitSuccessor(m.now, m.cfg)\n", ""),
	config("waits no longer than the others hold back", "{ return c.HoldBack() + c.Resend() }", "{ return c.HoldBack() }"),
	leave("waits for a successor though all leave", "m.now >= m.leave.leftAt || !m.anotherStays()", "m.now >= m.leave.leftAt"),
	leave("waits though a part of it has failed", "	if l.urgent {\n		l.by = now\n	}\n", ""),
	leave("standby leaves though the primary needs it", "by: m.now.Add(m.cfg.LeaveWithin), ", "by: m.now, "),
	leave("stays for as long as it is needed", "until := min(m.leave.by, m.forsaken())", "until := m.forsaken()"),
	leave("waits for a primary that never answers", "until := min(m.leave.by, m.forsaken())", "until := m.leave.by"),
	leave("asks once whether it is needed", "m.now.Add(min(m.cfg.Retry()/4<<min(m.leave.asked, 8), m.cfg.pollInterval()))\n", "m.now.Add(99 * m.cfg.Lease)\n"),
	grant("successor is not asked at once", "			m.leave.askAt = m.now // a candidate", "			_ = m.now // a candidate"),
	leave("leaving is not said at once", "	m.leave.askAt = m.now // at once", "	_ = m.now // at once"),
	follow("a successor that leaves is waited for", "		m.holdFor = \"\" // it never claims\n", ""),
	grant("a successor known to leave is waited for", " && m.stays(req.Successor) && ", " && "),
	primary("hands over to one that leaves", "	if !m.stays(m.successor) {\n", "	if false {\n"),

	// Having left.
	leave("hands over at once though others may leave as well", "	if m.now < min(m.leave.settledAt, m.leave.patientUntil) {\n", "	if false {\n"),
	leave("waits for no newcomer", "		if urgent || m.cfg.LeavePatience == 0 || m.expected() == 1 {\n", "		if m.now >= 0 {\n"),
	leave("waits for a newcomer though it is alone by its configuration", " || m.expected() == 1 {\n", " {\n"),
	leave("acts on though one that stays could take over", "	if id := m.chooseSuccessor(false); id != \"\" || m.now", "	if id := ReplicaID(\"\"); id != \"\" || m.now"),
	leave("waits for newcomers for as long as there is time", "min(now.Add(cfg.LeavePatience), l.by.Add(-cfg.StopWithin))", "l.by.Add(-cfg.StopWithin)"),
	leave("waits for newcomers for longer than there is time", "min(now.Add(cfg.LeavePatience), l.by.Add(-cfg.StopWithin))", "now.Add(cfg.LeavePatience)"),
	leave("acts on though a part of it has failed", "		if urgent {\n			m.resign(why, \"\", true)\n		}\n", ""),
	leave("is in no hurry though a part of it has failed", "		m.leave.urgent = m.leave.urgent || urgent\n", ""),
	leave("standby goes before a primary that leaves has finished", "m.cfg.LeavePatience == 0 || p != nil && p.leaves {", "m.cfg.LeavePatience == 0 || p == nil {"),
	leave("standby waits for a newcomer for as long as it is needed", "	return min(until, m.leave.patientUntil)\n", "	return until\n"),
	leave("who has its promise newly gets no time to give it back", "	l.patientUntil = max(l.patientUntil, min(l.by, now.Add(max(cfg.LeavePatience, cfg.Lease))))\n", ""),
	leave("leaving of a primary that acts on is not known", "		m.peers[id].leaves = true\n", ""),
	leave("dismisses while it hands over in turn", "	if m.stopping && m.cfg.LeavePatience > 0 {\n", "	if false {\n"),
	follow("a change of primary that history brings first is no news", "c.Claim.Compare(newest) >= 0 || slices", "c.Claim == newest || slices"),
	follow("newcomers are not noticed", "		m.leave.notice(m.now, m.cfg) // a newcomer", "		_ = m.now // a newcomer"),
	follow("newcomer that stands by is not noticed", "(!met || joined && !before.joined)", "!met"),
	follow("late message makes one stay that leaves", "leaves: s.Role == Leaving || met && before.leaves}", "leaves: s.Role == Leaving}"),
	primary("hands over to one that leaves, by a late message", "p.status.Role != Standby || p.leaves || ", "p.status.Role != Standby || "),
	leave("says that it has left while its promise is counted", "func (m *Machine) bound() bool { return m.now < m.promise.until }", "func (m *Machine) bound() bool { return false }"),
	leave("says that it has left before it has joined", "		if m.now >= m.joinedAt { // until then", "		if true { // until then"),
	grant("grants after it has left", "	case m.leave.left: //", "	case false: //"),
	leave("grant of one that was dismissed counts on", "	delete(m.acks, id)\n	m.dismissed[id] = true\n", "	m.dismissed[id] = true\n"),
	candidate("later grant of one that was dismissed counts", "			if !m.dismissed[a.From.Replica] {\n", "			if true {\n"),
	leave("lease is not shortened by a dismissal", "	m.dismissed[id] = true\n	m.extend()\n", "	m.dismissed[id] = true\n"),
	leave("dismisses though no quorum stays", "!ok || end.Sub(m.now) < m.cfg.Lease/2 {", "false && ok && end == 0 {"),
	leave("dismisses though its other grants are about to run out", "end.Sub(m.now) < m.cfg.Lease/2 {", "end.Sub(m.now) < 0 {"),
	leave("candidate dismisses", "	if m.role != Primary || m.hard {\n		return false\n	}\n	if m.dismissed", "	if m.own.IsZero() || m.hard {\n		return false\n	}\n	if m.dismissed"),
	leave("dismisses while its bot falls silent", "	if m.role != Primary || m.hard {\n		return false\n	}\n	if m.dismissed", "	if m.role != Primary {\n		return false\n	}\n	if m.dismissed"),
	leave("dismissal from another claim counts", "a.Claim.IsZero() || a.Claim != m.promise.held || ", ""),
	leave("never dismisses", "		a.Dismissed = m.dismiss(id)\n", ""),
	leave("one that has left is waited for", "		m.resize(m.size - 1)\n", ""),
	leave("one that has left is counted out for one that is silent", " && 1+others < m.size {", " && m.size > 0 {"),
	leave("one that never counted is counted out", "counted := met && gone.joined", "counted := met || gone == nil"),
	follow("one that leaves does not count", "		joined = joined || before.joined\n", ""),
	follow("one that leaves before it has joined counts", "s.Role != Joining && s.Role != Leaving // one", "s.Role != Joining // one"),
	follow("late message of one that has left counts it again", "	if s.Replica == m.cfg.Self || m.hasDeparted(s.Replica) || ", "	if s.Replica == m.cfg.Self || "),
	leave("late claim of one that has left binds", "m.promise.hasEnded(c) || m.hasDeparted(c.Replica) || ", "m.promise.hasEnded(c) || "),
	leave("promise to one that has left stands", "	if m.promise.held.Replica == id {\n", "	if false {\n"),
	leave("primary that has left is followed", "c.Replica == id && !m.last.over {", "c.Replica == id && false {"),
	leave("refusal of one that has left stands", "	delete(m.refused, id)\n", ""),
	leave("the highest timestamp leaves with a replica", "		m.floorSeen = max(m.floorSeen, req.From.Floor.Timestamp) // ORDER", "		// ORDER"),
	leave("departure is not remembered", "	m.departed[id] = m.now\n", ""),
	leave("a successor that has left is waited for", "	if m.holdFor == id {\n", "	if false {\n"),
	leave("those that have left are not bounded", "	if len(m.departed) >= endedLength {\n", "	if false {\n"),
	{"counted out below REPLICAS", []edit{
		{"election/size.go", "	n := max(m.cfg.Replicas, m.size)\n	if m.role == Candidate", "	n := m.size\n	if n == 0 {\n		n = m.cfg.Replicas\n	}\n	if m.role == Candidate"},
		{"election/size.go", "	if n <= m.cfg.Replicas {\n		n = 0\n	}\n", ""},
	}},

	// A death that was witnessed.
	death("death of any replica frees the promise to the living", "	if p.held.Replica == id {\n", "	if true {\n"),
	death("death of any replica ends the primary's term", "	if m.last.claim.Replica == id && m.following() {\n", "	if m.following() {\n"),
	death("promise to the dead stays", "		p.held, p.until = Claim{}, 0\n", ""),
	death("claim of the dead leaves no floor", "		p.raise(p.held)\n", ""),
	leave("late claims of the dead bind", " || m.hasDied(c.Replica)\n}", "\n}"),
	follow("late words of the dead are heard", " || m.hasDied(s.Replica) {\n", " {\n"),
	grant("late end of the dead's claims is heard", "	if m.hasDied(c.Replica) {\n		return // all", "	if false {\n		return // all"),
	death("the dead are not bounded", "	if len(m.dead) >= deadLength {\n", "	if false {\n"),
	death("many deaths make ended claims of the living forgotten", "	delete(p.ended, id)\n", "	p.end(Claim{2, id}, false)\n"),
	death("the dead are counted out at once", "	m.dead[id] = m.now\n", "	m.dead[id] = m.now\n	m.cfg.Replicas--\n"),
	candidate("the dead count as granting", "	m.acks, m.dismissed = map[ReplicaID]Instant{}, map[ReplicaID]bool{}\n	m.sendClaim(", "	m.acks, m.dismissed = map[ReplicaID]Instant{}, map[ReplicaID]bool{}\n	for id := range m.dead {\n		m.acks[id] = m.now.Add(m.cfg.GrantedFor())\n	}\n	m.sendClaim("),
	death("grants of the dead are taken from a primary", "	m.dead[id] = m.now\n", "	m.dead[id] = m.now\n	delete(m.acks, id)\n	m.count()\n"),
	{"a death makes a primary without a quorum", []edit{
		{"election/death.go", "	case Standby:\n		m.look()\n", "	case Standby:\n		m.look()\n		m.claim()\n	m.win(m.now.Add(m.cfg.GrantedFor()))\n"},
	}},
	death("all that witness a death claim at once", "		if id < m.cfg.Self && !m.hasDied(id) && ", "		if id == m.cfg.Self && "),
	death("others that died too are waited for", "		if id < m.cfg.Self && !m.hasDied(id) && ", "		if id < m.cfg.Self && "),
	candidate("one of many that witnesses a death waits for its place", "m.nominated || m.inTurn && m.health.OK {", "m.nominated {"),
	candidate("unhealthy witness does not wait", "m.nominated || m.inTurn && m.health.OK {", "m.nominated || m.inTurn {"),
	follow("turn outlives its term", "		m.last, m.inTurn = followed{claim: c}, false\n", "		m.last = followed{claim: c}\n"),
	candidate("turn outlives its claim", "	m.role, m.nominated, m.inTurn = Candidate, false, false\n", "	m.role, m.nominated = Candidate, false\n"),
	primary("hands over to the dead", "m.acks[id] <= m.now || m.hasDied(id) || ", "m.acks[id] <= m.now || "),
	leave("successor that has died stays the successor", "!m.hasDeparted(id) && !m.hasDied(id) && ", "!m.hasDeparted(id) && "),
	death("a successor that has died is held back for", "	if m.holdFor == id {\n", "	if false {\n"),
	death("one that leaves does not stay for those that inherit", "		m.leave.awaitSuccessor(m.now, m.cfg)\n", ""),
	leave("one that leaves waits for the dead", "!p.leaves && !m.hasDied(id) && ", "!p.leaves && id != m.cfg.Self && "),
	leave("leaving of the dead is dismissed", " || m.hasDied(id) && !req.Departed:", ":"),
	death("a death is told of one that has left", "	if !m.hasDeparted(id) {\n", "	if true {\n"),
	size("the dead are reachable", " && !m.hasDied(p.status.Replica)\n", "\n"),
	death("candidate does not ask again when the holder dies", "	if m.role == Candidate && m.heldFor(id) {\n", "	if false {\n"),
	death("candidate asks as seldom as after a release", "	if m.hasDied(holder.Replica) {\n", "	if false {\n"),

	// Witnesses.
	machine("witness claims", "m.role == Looking && !m.cfg.Witness && m.now", "m.role == Looking && m.now"),
	machine("witness wants a tick for a claim that it never makes", "		if !m.cfg.Witness {\n			next", "		if true {\n			next"),
	machine("witness does not show that it is one", "		m.health = WitnessHealth()\n", ""),
	machine("witness takes the health that it is given", "ok && !m.cfg.Witness {", "ok {"),
	in("election/witness.go", "any unhealthy replica is taken for a witness", "return s.Health == WitnessHealth() }", "return !s.Health.OK }"),
	in("election/witness.go", "a witness is not known as one", "return s.Health == WitnessHealth() }", "return false }"),
	primary("hands over to a witness", " || m.hasDied(id) || p.status.IsWitness() {", " || m.hasDied(id) {"),
	in("election/view.go", "operator hands over to a witness", " && !p.status.IsWitness() && m.acks", " && m.acks"),
	grant("a witness named successor is held back for", " && !m.isWitness(req.Successor) {", " {"),
	death("a witness has a turn after a death", " && !m.isWitness(id) {\n", " {\n"),
	leave("one that leaves waits for a witness to claim", " && !m.hasDied(id) && !p.status.IsWitness() {", " && !m.hasDied(id) {"),
	many("a witness has a place among many", " && !p.status.IsWitness() && m.reachable(p)", " && m.reachable(p)"),
	size("a witness does not count", "		case m.reachable(p) && p.joined:", "		case m.reachable(p) && p.joined && !p.status.IsWitness():"),
	candidate("a witness's grant does not count", "			if !m.dismissed[a.From.Replica] {\n", "			if !m.dismissed[a.From.Replica] && !a.From.IsWitness() {\n"),
	in("node/progress.go", "a witness is told what was handled", "return !s.votes[addr] || s.knows[addr] < s.noted }", "return true }"),
	in("node/progress.go", "a witness is told no notes", "return !s.votes[addr] || s.knows[addr] < s.noted }", "return !s.votes[addr] }"),
	in("node/progress.go", "a witness is told again and again while notes are under way", "sent > 0 && !s.wants(addr) || s.ctx", "s.ctx"),

	// Versions of messages.
	in("node/progress.go", "a replica that takes no notes counts as one that knows them", "return s.without[s.address[id]] })", "return false })"),

	// The evidence of a death.
	in("lifeline/lifeline.go", "a process that has closed its connection counts as dead", "	if x.pid != nil {\n		return x.pid.wait()\n	}\n", ""),
	in("lifeline/lifeline.go", "a connection that is refused counts as a death", "		l.failed(socket, err)\n", "		l.failed(socket, err)\n		l.cfg.Died(id)\n"),
	in("lifeline/lifeline.go", "a connection is ended while its process lives", "	l.watch(id, x)\n", "	_ = x.conn.CloseWrite()\n	l.watch(id, x)\n"),
	in("lifeline/lifeline.go", "a deadline that passes counts as a death", "		return fmt.Errorf(\"wait for the end of the connection: %w\", err)\n", "		return nil\n"),
	in("lifeline/handshake.go", "a replica is taken at the socket of another", "	if whose != \"\" && theirs.id != whose {\n", "	if false {\n"),
	in("lifeline/lifeline.go", "a death is reported of another process", "		l.cfg.Died(id)\n", "		l.cfg.Died(l.cfg.Self)\n"),
	in("lifeline/handshake.go", "a proof without the secret is taken", "		if !hmac.Equal(got[:], proof(key, side, dialer, listener, p)) || theirs.id == self {\n", "		if theirs.id == self {\n"),
	in("lifeline/handshake.go", "a proof that was passed on is taken", "	if dialer.bound && listener.bound {\n", "	if false {\n"),

	// The number of replicas.
	size("larger number ignored", "	n := max(m.cfg.Replicas, m.size)\n	if m.role == Candidate", "	n := m.cfg.Replicas\n	if m.role == Candidate"),
	size("larger number used at once", "n > m.size && m.now.Sub(m.since) >= m.growthDelay() {", "n > m.size {"),
	size("larger number never decays", "m.size != 0 && m.now.Sub(m.sizeSeen) > keep {", "false {"),
	size("joining replicas count", "case m.reachable(p) && p.joined:", "case m.reachable(p):"),
	size("deadline stays when the quorum grows", "Configured: m.cfg.Replicas})\n	m.count()\n", "Configured: m.cfg.Replicas})\n"),

	// More replicas than REPLICAS, and two primaries all the same.
	size("candidate does not count all that are there", "		n = max(n, m.present())\n", ""),
	candidate("term's quorum is smaller than the election's", "		m.size, m.sizeSeen = n, m.now // the quorum", "		_ = n // the quorum"),
	size("candidate counts one that may be gone", "m.now.Sub(p.heard) <= m.cfg.Lease/2 && p.status.Role != Leaving {", "p.status.Role != Leaving {"),
	size("candidate counts one that leaves", "m.now.Sub(p.heard) <= m.cfg.Lease/2 && p.status.Role != Leaving {", "m.now.Sub(p.heard) <= m.cfg.Lease/2 {"),
	size("candidate counts one that has started again twice", "			names[p.status.Name] = true", "			names[string(p.status.Replica)] = true"),
	candidate("candidate without a quorum keeps the others from theirs", "		return m.cfg.Lease / 4\n", "		return m.cfg.Lease\n"),
	candidate("candidate without a quorum claims again at once", "		m.claimAt = max(m.claimAt, m.now.Add(m.cfg.Lease/2+", "		_ = max(m.claimAt, m.now.Add(m.cfg.Lease/2+"),
	candidate("standby never asks a primary that it has met", "p != nil && m.now.Sub(p.heard) <= m.cfg.Lease/2 {", "p != nil {"),
	candidate("many standbys ask with one renewal", "m.role == Standby && m.rounds() == 1 && m.queryAt", "m.role == Standby && m.queryAt"),
	candidate("standby asks only when its primary's lease is over", "	if m.role != Standby {\n		return m.queryAt", "	if true {\n		return m.queryAt"),
	follow("primary ignores a later one", "		m.rival = c\n		m.resign(ReasonLeaseLost, \"\", false)\n", "		m.rival = c\n"),
	follow("primary steps down for a message that may be late", "	case !fresh:\n", "	case false:\n"),
	follow("primary does not ask whether another is there", "			m.sendAt = m.now // a late", "			_ = m.now // a late"),
	follow("later primary leaves an earlier one no time", "	case c != m.rival:\n		m.rival, m.rivalAt = c, m.now\n", ""),
	follow("later primary stays beside an earlier one", "	case in.sentAt.Sub(m.rivalAt) >= m.cfg.Lease/2:", "	case false:"),
	primary("primary names a successor beside another primary", " && m.rival.IsZero() {", " {"),

	// Below a majority.
	candidate("below a majority not all are asked", "return m.roundWas && len(m.refused) == 0 }", "return len(m.refused) == 0 }"),
	candidate("below a majority refusals do not count", "return m.roundWas && len(m.refused) == 0 }", "return m.roundWas }"),
	machine("round not distinguished from the current one", "if in.Round == m.round {", "{"),
	follow("lower primary steps down", "		if fresh && earlier {", "		if fresh && !earlier {"),
	follow("no primary steps down", "			m.resign(ReasonLowerPrimary, \"\", false)\n", ""),
	follow("steps down on an answer older than its term", "in.answer && in.sentAt > m.ownSince, c.", "in.answer, c."),
	follow("below a majority the newer primary is followed", "	return a.Compare(b) < 0\n}", "	return a.Compare(b) > 0\n}"),

	follow("primary under another lease is not spared", "		m.claimAt = max(m.claimAt, m.now.Add(min(s.Remaining, sparing)))\n", ""),

	// What is reported.
	follow("mismatch reported again and again", "			m.mismatchTold[s.Name] = why\n", ""),
	size("former primary shown beside its successor", "within && !followed", "within || followed"),
	candidate("crash and lost lease confused", "return ok && p.heard >= at", "return ok && p.heard < at"),
}
