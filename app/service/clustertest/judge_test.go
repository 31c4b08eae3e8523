package clustertest

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"habot/app/election"
	"habot/app/node"
	"habot/app/simulator"
)

// judge keeps the world's own account, apart from what nodes, bots and the simulator say of themselves. It is guarded
// by w.mu.
type judge struct {
	grants  map[election.Claim]map[election.ReplicaID]grant
	terms   []*term
	newest  *term // of those whose requests have left
	sent    []*request
	written map[int64][]string // chat: what its user wrote, in order
	// kept are the updates whose contents were noted, and the processes that had them in memory.
	kept map[int][]*process
	// forgotten are texts of updates that were confirmed, and that no live process knows.
	forgotten map[string]bool
	// late are updates of which a primary learned when its work had begun: no replica of its quorum knew them, or could send them.
	late map[int]bool
}

// grant is a promise as it was given: by which host's clock, and until when.
type grant struct {
	by    *process
	until election.Instant
}

func (j *judge) init() {
	j.grants = map[election.Claim]map[election.ReplicaID]grant{}
	j.written = map[int64][]string{}
	j.kept, j.forgotten, j.late = map[int][]*process{}, map[string]bool{}, map[int]bool{}
}

// granted takes note of a promise, by the clock of the one who gave it.
func (w *world) granted(by *process, c election.Claim) {
	until := clock{by}.Read().Now.Add(w.opt.lease)
	w.mu.Lock()
	defer w.mu.Unlock()
	of := w.judge.grants[c]
	if of == nil {
		of = map[election.ReplicaID]grant{}
		w.judge.grants[c] = of
	}
	of[by.id] = grant{by, max(until, of[by.id].until)}
}

// departs takes note that a process says that it has left.
func (w *world) departs(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.departed {
		p.departed = true
		defer w.count("said that it has left")
	}
}

// number judges how many replicas each process counts, once all have counted all: as many as run and have not said that they
// have left.
func (w *world) number() {
	run := 0
	var all []*process
	w.mu.Lock()
	for _, h := range w.hosts {
		if p := h.process; p != nil && !p.departed {
			run++
			all = append(all, p)
		}
	}
	w.mu.Unlock()
	for _, p := range all {
		if v := p.node.View(); v.Expected < run {
			w.breaks("NUMBER: %s counts %d replicas, and %d run", p.host.name, v.Expected, run)
		}
	}
}

// learns takes note of what a process knows of progress: the latest of the highest claim.
func (w *world) learns(p *process, told election.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := told.Claim.Compare(p.heard.Claim)
	if c > 0 || c == 0 && (told.Sequence == 0 || told.Sequence >= p.heard.Sequence) {
		p.heard, p.heardAt = told, time.Now()
	}
}

// keptIn are the updates whose contents are in notes.
func keptIn(notes []json.RawMessage) (ids []int) {
	for _, raw := range notes {
		var n struct {
			ID     int             `json:"update_id"`
			Update json.RawMessage `json:"update"`
		}
		if json.Unmarshal(raw, &n) == nil && n.Update != nil {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// remembers takes note that a process has the contents of the updates in these notes.
func (w *world) remembers(p *process, notes []json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range keptIn(notes) {
		if !slices.Contains(w.judge.kept[id], p) {
			w.judge.kept[id] = append(w.judge.kept[id], p)
		}
	}
}

// learnsLate takes note that a primary learned of the updates in these notes when its work had begun.
func (w *world) learnsLate(notes []json.RawMessage) {
	w.count("notes handed in late")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range keptIn(notes) {
		w.judge.late[id] = true
	}
}

// settled is how long after its start a replica may not know yet what others keep.
func (w *world) settled() time.Duration { return 3*w.opt.lease + 2*time.Second }

// forgets finds the updates that were confirmed before they were handled and that no live process knows: all replicas that did
// have died. When the last of them did most others MUST have been gone, too, or it is a loss that nothing excuses. It MUST be
// called while the others live.
func (w *world) forgets() {
	records, err := w.records()
	if err != nil {
		w.breaks("%v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		who := w.judge.kept[r.ID]
		if r.Text == "" || len(r.Answered) > 0 || r.Confirmed.IsZero() || len(who) == 0 {
			continue
		}
		if slices.ContainsFunc(who, func(p *process) bool { return !p.dead }) {
			continue
		}
		last := slices.MaxFunc(who, func(a, b *process) int { return a.diedAt.Compare(b.diedAt) })
		if last.alone {
			w.judge.forgotten[r.Text] = true
			w.tell("%q is lost: of %d processes that knew it the last was %s, which died at %v, and most others were gone", r.Text, len(who), last.id, last.diedAt.Sub(w.start))
		} else {
			defer w.breaks("LOST: %q was kept by %d processes, the last of which, at %s, died while most others lived", r.Text, len(who), last.host.name)
		}
	}
}

func (w *world) termBegins(p *process, t node.Term) *term {
	t0 := &term{p: p, claim: t.Change.Claim, node: t}
	w.mu.Lock()
	if p.dead { // what is left of it counts for nothing
		defer w.mu.Unlock()
		t0.over = time.Now()
		return t0
	}
	var last *term
	if n := len(w.judge.terms); n > 0 {
		last = w.judge.terms[n-1]
	}
	var who string // granted both, and so knows better
	if last != nil && t0.claim.Timestamp <= last.claim.Timestamp {
		for id := range w.judge.grants[t0.claim] {
			if g, both := w.judge.grants[last.claim][id]; both && !g.by.dead {
				who = g.by.host.name
			}
		}
	}
	p.term = t0
	w.judge.terms = append(w.judge.terms, t0)
	var lost []int64
	if p.heardAt.Before(time.Now()) { // what comes at this instant may come too late
		lost = slices.DeleteFunc(slices.Clone(p.heard.Handled), func(id int64) bool { return slices.Contains(t.Handled, id) })
	}
	var untold []int64
	if w.opt.orderly && last != nil && last.p.heard.Claim == last.claim && p.born.Before(last.p.heardAt) {
		untold = slices.DeleteFunc(slices.Clone(last.p.heard.Handled), func(id int64) bool { return slices.Contains(t.Handled, id) })
	}
	w.mu.Unlock()
	w.count("term after " + string(t.Change.Reason))
	if who != "" || last != nil && !w.opt.restarts && t0.claim.Timestamp <= last.claim.Timestamp {
		w.breaks("ORDER: %s becomes primary with %v after %s with %v (%s granted both)", p.host.name, t0.claim, last.p.host.name, last.claim, who)
	}
	if len(lost) > 0 {
		w.breaks("HANDED DOWN: %s begins a term without %v, though it knew that they are handled", p.host.name, lost)
	}
	if len(untold) > 0 {
		w.breaks("HANDED OVER: %s takes over from %s in order and is not told that %v are handled", p.host.name, last.p.host.name, untold)
	}
	w.tell("%s acts as primary, %d, told of %d handled", p.host.name, t0.claim.Timestamp, len(t.Handled))
	return t0
}

func (w *world) termEnds(t *term, cut bool) {
	w.mu.Lock()
	if !t.over.IsZero() { // with its process
		w.mu.Unlock()
		return
	}
	t.cut, t.over = cut, time.Now()
	t.p.term = nil
	w.mu.Unlock()
	if cut {
		w.count("term cut off")
	} else {
		w.count("term drained")
	}
	w.tell("%s acts as primary no longer, cut off: %t", t.p.host.name, cut)
}

// leaves judges a request at the instant at which it leaves; nil if its process has just died instead.
func (w *world) leaves(p *process, method string, body []byte) *request {
	r := &request{p: p, method: method, left: time.Now()}
	var params struct {
		ChatID int64  `json:"chat_id"`
		Text   string `json:"text"`
	}
	if err := json.Unmarshal(body, &params); err != nil && len(body) > 0 {
		w.breaks("%s sends %s with %q: %v", p.host.name, method, body, err)
	}
	r.chat, r.text = params.ChatID, said(params.Text)
	r.by, _, _ = strings.Cut(params.Text, ": ")
	w.mu.Lock()
	if p.dead {
		defer w.mu.Unlock()
		return nil
	}
	w.tell("%s  > %s %.120s", p.host.name, method, body)
	if method == "getMe" { // every process asks it
		defer w.mu.Unlock()
		return r
	}
	t := p.term
	r.term = t
	w.judge.sent = append(w.judge.sent, r)
	supporters := map[string]bool{p.host.name: true}
	var older bool
	var others []*term
	if t != nil {
		for _, g := range w.judge.grants[t.claim] {
			if g.by.host.local() < g.until {
				supporters[g.by.host.name] = true
			}
		}
		if n := w.judge.newest; n != nil && n != t && slices.Index(w.judge.terms, n) > slices.Index(w.judge.terms, t) {
			older = true
		}
		w.judge.newest = t
	}
	for _, h := range w.hosts {
		if o := h.process; o != nil && o != p && o.term != nil {
			others = append(others, o.term)
		}
	}
	w.mu.Unlock()
	switch {
	case t == nil:
		w.breaks("SILENCE: %s sends %s and is in no term", p.host.name, method)
	case len(supporters) <= w.opt.replicas/2:
		w.breaks("LEASE: %s sends %s, but only %v promised to support it and still do", p.host.name, method, slices.Sorted(maps.Keys(supporters)))
	case older:
		w.breaks("FENCING: %s sends %s in a term after a newer one has sent something", p.host.name, method)
	}
	for _, o := range others {
		if !o.p.disturbed(0) && o.node.Held() { // a frozen one's clock stands still: what it believes is judged when it wakes
			w.breaks("SAFETY: %s sends %s while %s holds its lease", p.host.name, method, o.p.host.name)
		}
	}
	return r
}

// isServed takes note of the server's own answer.
func (w *world) isServed(r *request, a response) {
	w.tell("%s  < %s %d %v %.120s", r.p.host.name, r.method, a.code, a.err, a.body)
	if a.code == 200 {
		w.mu.Lock()
		defer w.mu.Unlock()
		r.arrived = time.Now()
		return
	}
	what := strconv.Itoa(a.code)
	if a.err != nil {
		what = "nothing"
	}
	w.disturbs("Telegram answers " + r.method + " with " + what)
}

// answers takes note that an answer has reached its process.
func (w *world) answers(r *request, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.heard = code == 200
	if w.opt.orderly && w.opt.copies == 0 && !r.heard { // a 409 that reaches a connection closed before does not count
		defer w.breaks("ORDERLY: %s's %s is answered with %d", r.p.host.name, r.method, code)
	}
}

// writes has a user write something that was never written before.
func (w *world) writes(chat int64, text string) {
	w.mu.Lock()
	w.judge.written[chat] = append(w.judge.written[chat], text)
	w.mu.Unlock()
	w.tell("user %d writes %q", chat, text)
	w.sim.Write(chat, text)
}

// settle judges the whole schedule, when all is answered.
func (w *world) settle() {
	r := w.sim.Report()
	w.mu.Lock()
	forgotten := w.judge.forgotten
	w.mu.Unlock()
	for range forgotten {
		w.count("update lost with all replicas that knew it")
	}
	r.Lost, r.Unanswered = r.Lost-int64(len(forgotten)), r.Unanswered-int64(len(forgotten))
	if r.Lost != 0 || r.Unanswered != 0 || r.Dropped != 0 || r.OutOfOrder != 0 && len(w.judge.late) == 0 {
		w.breaks("the simulator's account: %d lost, %d unanswered, %d dropped, %d out of order", r.Lost, r.Unanswered, r.Dropped, r.OutOfOrder)
	}
	if w.opt.orderly && r.AnsweredTwice != 0 {
		w.breaks("ORDERLY: %d answered twice", r.AnsweredTwice)
	}
	records, err := w.records()
	if err != nil {
		w.breaks("%v", err)
	}
	byText := map[string]simulator.Record{}
	for _, rec := range records {
		byText[rec.Text] = rec
	}
	w.mu.Lock()
	j := w.judge
	w.mu.Unlock()
	answers := map[string][]*request{}
	first := map[int64][]string{}
	for _, s := range j.sent {
		if s.method != "sendMessage" || s.arrived.IsZero() || s.text == "" || byText[s.text].Chat != s.chat {
			continue
		}
		answers[s.text] = append(answers[s.text], s)
	}
	for text, all := range answers {
		slices.SortStableFunc(all, func(a, b *request) int { return a.arrived.Compare(b.arrived) })
		first[all[0].chat] = append(first[all[0].chat], text)
	}
	for chat, written := range j.written {
		// What became known late is answered late, after what was written later.
		late := func(text string) bool { return j.late[byText[text].ID] }
		written = slices.DeleteFunc(slices.Clone(written), func(text string) bool { return forgotten[text] || late(text) })
		order := slices.DeleteFunc(first[chat], late)
		slices.SortFunc(order, func(a, b string) int { return answers[a][0].arrived.Compare(answers[b][0].arrived) })
		if !slices.Equal(order, written) {
			w.breaks("ORDER OF ANSWERS: chat %d wrote %q and was answered %q", chat, written, order)
		}
	}
	for text, all := range answers {
		if n := len(byText[text].Answered); n != min(len(all), 20) {
			w.breaks("ACCOUNTS: %q was answered %d times, says the simulator, %d times, says the network", text, n, len(all))
		}
		for i := range len(all) - 1 {
			w.excuse(byText[text], all[i], all[i+1])
		}
	}
}

// excuse finds out why an update was answered again.
func (w *world) excuse(rec simulator.Record, first, again *request) {
	a, b := first.term, again.term
	told := slices.Contains(b.node.Handled, int64(rec.ID))
	switch {
	case !first.heard && first.left.Before(again.left):
		w.count("twice: its first answer's fate was not known")
	case again.left.Before(first.left):
		w.count("twice: one was long on its way")
	case a == b:
		w.breaks("TWICE: %s answered %q again in one term", a.p.host.name, rec.Text)
	case told:
		w.breaks("TWICE: %s answered %q again, though it knew", b.p.host.name, rec.Text)
	case a.cut:
		w.count("twice: in hand at a crash or a lost lease")
	case w.disturbedIn(a):
		w.count("twice: handed over in trouble")
	default:
		w.breaks("TWICE: %s answered %q again for no reason", b.p.host.name, rec.Text)
	}
}

// disturbedIn reports whether something got lost at the end of a term.
func (w *world) disturbedIn(t *term) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.disturbances {
		if d := t.over.Sub(at); d > -2*time.Second && d < 15*time.Second {
			return true
		}
	}
	return false
}
