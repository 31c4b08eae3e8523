package election

import (
	"time"
)

// peer is another replica by its latest status.
type peer struct {
	status Status
	heard  Instant
	since  Instant // since when it has been in contact without a break
	// leaves: it has said so, and stays no more whatever a late message says. The role of a primary that acts on does not show it.
	leaves bool
	// joined: it has taken part, and so may have promised something. Only such a replica counts.
	joined bool
	// within is for how long after its latest message it counts as reachable.
	within time.Duration
}

// Machine is one replica's election. It is not safe for concurrent use: one goroutine owns it.
type Machine struct {
	cfg Config
	now Instant
	// wall is the wall clock of the current step.
	wall int64
	out  []Output

	role     Role
	joinedAt Instant
	health   Health

	leave leave
	// departed are replicas that have left in order, and when that became known: a late message of theirs must neither
	// count them again nor bind any replica.
	departed map[ReplicaID]Instant

	promise promise
	// dead are replicas whose process is known to have ended, and since when it is known.
	dead    map[ReplicaID]Instant
	last    followed
	history []Change
	wonAt   map[Claim]int64 // by the wall clock, for people; of what is in history
	peers   map[ReplicaID]*peer

	// floorSeen is the highest timestamp met anywhere; lastOwn the last one used here.
	floorSeen, lastOwn int64
	// claimAt is when this replica may claim at the earliest; lookingSince when it began to look.
	claimAt, lookingSince Instant
	// holdFor is the successor that the last primary named, which alone may claim until holdUntil.
	holdFor   ReplicaID
	holdUntil Instant
	// nominated: the last primary nominated this replica its successor.
	nominated bool
	// inTurn: claimAt is this replica's turn among those that witnessed the last primary's death.
	inTurn  bool
	queryAt Instant // when to ask the others; see askAt
	askedAt Instant

	// The candidacy or the role: own is zero if there is none.
	own      Claim
	ownSince Instant // candidate: when it claimed; primary: when it won
	acks     map[ReplicaID]Instant
	// dismissed are replicas that leave: their grants of own were given back and never count again.
	dismissed map[ReplicaID]bool
	refused   map[ReplicaID]refusal
	reached   map[ReplicaID]bool // candidate: those that answered
	round     uint64
	roundWas  bool    // the current round is complete
	roundAt   Instant // when it began
	sendAt    Instant

	// The primary's.
	leaseEnd  Instant
	change    Change
	stopping  bool // StopWork was given
	silentBy  Instant
	hard      bool // StopWork without Drain was given
	halted    bool
	reason    Reason
	successor ReplicaID
	// rival is another primary that answered in this term, although a majority quorum allows only one; rivalAt is when it
	// did first.
	rival   Claim
	rivalAt Instant

	// size is the larger number of replicas in force, or 0; since is when more than N were first
	// in contact together without interruption, sizeSeen when they were last.
	size         int
	since        Instant
	growing      bool
	sizeSeen     Instant
	mismatchTold map[string]Refusal
	incompatible map[string]incompatiblePeer // by name, the latest of each
}

// New returns the machine of a replica that starts now: it is silent for JoinSilence.
func New(cfg Config, r Reading) *Machine {
	m := &Machine{
		cfg:          cfg,
		now:          r.Now,
		wall:         r.Wall,
		role:         Joining,
		joinedAt:     r.Now.Add(cfg.JoinSilence()),
		queryAt:      r.Now,
		health:       Health{OK: true},
		wonAt:        map[Claim]int64{},
		peers:        map[ReplicaID]*peer{},
		departed:     map[ReplicaID]Instant{},
		dead:         map[ReplicaID]Instant{},
		mismatchTold: map[string]Refusal{},
		incompatible: map[string]incompatiblePeer{},
	}
	m.promise.ended = map[ReplicaID]int64{}
	if cfg.Witness {
		m.health = WitnessHealth()
	}
	return m
}

// Step takes one input at one reading of the clocks and returns what is to be done, in order.
func (m *Machine) Step(r Reading, in Input) []Output {
	m.now, m.wall, m.out = max(m.now, r.Now), r.Wall, nil
	if in, ok := in.(HealthChanged); ok && !m.cfg.Witness {
		m.health = in.Health.bounded() // first: no primary is to leave for an illness that is over
	}
	m.advance()
	switch in := in.(type) {
	case Tick, HealthChanged:
	case ClaimReceived:
		m.emit(Reply{m.answer(in.Request)})
	case EndReceived:
		m.onEnd(in.Request)
	case LeaveReceived:
		m.emit(LeaveReply{m.onLeave(in.Request)})
	case LeaveAnswerReceived:
		m.onLeaveAnswer(in.Answer, in.SentAt)
	case AnswerReceived:
		m.onAnswer(in.Answer, in.SentAt)
	case StatusReceived:
		m.receive(in.Status, heardIn{answer: true, sentAt: in.SentAt})
	case RoundDone:
		if in.Round == m.round {
			m.roundWas = true
			m.count()
		}
	case ProcessDied:
		m.onDeath(in)
	case HistoryReceived:
		m.learnHistory(in.History)
	case WorkStopped:
		m.onWorkStopped()
	case Resign:
		m.resign(in.Reason, in.Successor, true)
	case Leave:
		m.beginLeave(in.Reason)
	}
	m.advance()
	return m.out
}

func (m *Machine) emit(o Output) { m.out = append(m.out, o) }

// Next returns the instant at which Tick is due.
func (m *Machine) Next() Instant {
	next := m.askAt()
	switch m.role {
	case Joining:
		next = min(next, m.joinedAt)
	case Candidate:
		next = min(next, m.ownSince.Add(m.patience()))
		if m.maySendAgain() {
			next = min(next, m.sendAt)
		}
	case Primary:
		if m.hard {
			next = min(next, m.haltAt())
		} else {
			next = min(next, m.sendAt, m.workUntil())
			if m.passesOn() {
				next = min(next, m.passOnDue())
			}
		}
	case Standby:
		next = min(next, m.last.until)
	case Looking:
		if !m.cfg.Witness {
			next = min(next, m.mayClaimAt())
		}
	case Leaving:
		if !m.leave.left {
			next = min(next, m.leaveDue())
		}
	}
	return next
}

// advance does what has become due.
func (m *Machine) advance() {
	m.measure() // first: a larger quorum can end the lease
	if m.role == Joining && m.now >= m.joinedAt {
		m.look()
	}
	if m.role == Primary {
		m.advancePrimary()
	}
	if m.role == Candidate {
		switch {
		case m.now >= m.ownSince.Add(m.patience()):
			m.timeOut()
		case m.now >= m.sendAt && m.maySendAgain():
			m.sendClaim(m.cfg.Retry())
		}
	}
	if m.role == Standby && m.now >= m.last.until {
		m.look()
	}
	if m.role == Looking && !m.cfg.Witness && m.now >= m.mayClaimAt() {
		m.claim()
	}
	if m.role == Leaving && !m.leave.left {
		m.advanceLeaving()
	}
	if m.now >= m.askAt() {
		m.query()
	}
}
