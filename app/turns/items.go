package turns

import (
	"cmp"
	"slices"
)

// item is an update in hand.
type item struct {
	Update
	// early: it was there when the term began, so that a predecessor may have given it.
	early bool
	// turn is the one in which it was given last, at givenAt to a copy; 0 if it was not yet in this term, or is to be
	// given again.
	turn    uint64
	givenAt Instant
	to      CopyID
	// signed: the copy has shown a sign of handling it since it was given.
	signed bool
	// confirmed: a copy has confirmed it. done: Telegram need not keep it.
	confirmed, done bool
	// stored: it is kept to be given again, and the others learn that with the delta seq.
	stored bool
	seq    uint64
	// again is how often it was given again; back is when that was decided last.
	again int
	back  Instant
}

// items are the updates in hand, each of them once.
type items struct {
	// pending are what copies have to confirm, window what the active one has confirmed and might have to be given
	// again. Both are in Telegram's order, and what is in the window comes before what is pending.
	pending, window []*item
	// tail is one above the newest update's id; 0 if there was none.
	tail    int64
	batched bool
	// confirmedAt is when a copy confirmed one last; 0 if none did in this term.
	confirmedAt Instant
	// count and size are of those that are stored.
	count, size int

	// What has changed in this step.
	ended   map[Outcome][]int64
	changed []change
}

// change is an item that the other replicas have to know of, with all of it, or to forget.
type change struct {
	*item
	whole, gone bool
}

// inherit takes over what the predecessor has kept.
func (m *Machine) inherit(now Instant, kept []Kept) {
	to := m.former
	if m.active != nil {
		to = m.active.id
	}
	for _, k := range kept {
		i := &item{Update: k.Update, givenAt: now.Add(-k.GivenAgo), to: to, confirmed: !k.Pending, done: true, again: k.Again}
		if k.ExpiresIn != 0 {
			i.Expires = now.Add(k.ExpiresIn)
		}
		if k.Pending {
			m.pending = append(m.pending, i)
		} else {
			m.window = append(m.window, i)
		}
		m.tail = max(m.tail, k.ID+1)
		m.store(i)
	}
	m.bound()
}

// batch takes in new updates. Some may be known: Telegram has not been told yet that they are confirmed.
func (m *Machine) batch(updates []Update) {
	early := !m.batched
	m.batched = m.batched || len(updates) > 0
	for _, u := range updates {
		m.tail = u.ID + 1
		if i := m.lookUp(u.ID); i != nil {
			i.done = false
			m.finishKnown(i)
			continue
		}
		m.pending = append(m.pending, &item{Update: u, early: early})
	}
	m.sort()
	if early && m.first && m.active != nil && m.active.asked {
		m.confirm(m.active.offset) // which came before there was anything to confirm
	}
}

// sort brings what is pending into Telegram's order: what Telegram brings again, as it was not told in time that it is
// done, may have been there before what was kept.
func (m *Machine) sort() {
	slices.SortStableFunc(m.pending, func(a, b *item) int { return cmp.Compare(a.ID, b.ID) })
}

func (m *Machine) lookUp(id int64) *item {
	for _, list := range [][]*item{m.window, m.pending} {
		for _, i := range list {
			if i.ID == id {
				return i
			}
		}
	}
	return nil
}

// give marks as given, and returns, at most limit updates.
func (m *Machine) give(limit int) (given []Update) {
	size := 0
	for _, i := range m.pending {
		if len(given) == limit || len(given) > 0 && size+len(i.Raw) > MaxAnswer {
			break
		}
		i.turn, i.givenAt, i.to, i.signed = m.turn, m.now, m.active.id, false
		size += len(i.Raw)
		given = append(given, i.Update)
	}
	return given
}

// confirm takes an offset of the active copy. It confirms what this turn has given, and what a predecessor may have
// given to the same copy. What is far past the end confirms nothing: ids have started again.
func (m *Machine) confirm(offset int64) {
	if offset <= 0 || offset > m.tail+beyond {
		return
	}
	m.pending = slices.DeleteFunc(m.pending, func(i *item) bool {
		switch {
		case i.ID >= offset:
			return false
		case i.turn == m.turn:
		case m.first && i.early && i.turn == 0:
			i.turn, i.givenAt, i.to = m.turn, m.began, m.active.id
		default:
			return false
		}
		i.confirmed, m.confirmedAt = true, m.now
		if i.signed || m.cfg.Replay == 0 || len(i.Raw) > MaxReplayBytes {
			m.discard(i, OutcomeConfirmed)
			return true
		}
		m.window = append(m.window, i)
		m.store(i)
		m.finishKnown(i)
		return true
	})
	m.bound()
}

// expire drops what Telegram would not give any more.
func (m *Machine) expire() {
	m.pending = slices.DeleteFunc(m.pending, func(i *item) bool {
		over := i.Expires != 0 && m.now >= i.Expires
		if over {
			m.discard(i, OutcomeExpired)
		}
		return over
	})
}

// store keeps an item to be given again.
func (m *Machine) store(i *item) {
	m.changed = append(m.changed, change{item: i, whole: !i.stored})
	if !i.stored {
		i.stored, i.seq = true, m.seq+1 // what this step will tell
		m.count++
		m.size += len(i.Raw)
	}
}

// discard lets go of an item that the caller takes off its list.
func (m *Machine) discard(i *item, o Outcome) {
	if i.stored {
		i.stored = false
		m.count--
		m.size -= len(i.Raw)
		m.changed = append(m.changed, change{item: i, gone: true})
	}
	m.finish(i, o)
}

// finish lets Telegram forget an update.
func (m *Machine) finish(i *item, o Outcome) {
	if i.done {
		return
	}
	i.done = true
	if m.ended == nil {
		m.ended = map[Outcome][]int64{}
	}
	m.ended[o] = append(m.ended[o], i.ID)
}

// finishKnown lets Telegram forget a confirmed update once the other replicas have it.
func (m *Machine) finishKnown(i *item) {
	if i.confirmed && i.seq <= m.known {
		m.finish(i, OutcomeConfirmed)
	}
}

func (m *Machine) confirmKnown() {
	for _, i := range m.window {
		m.finishKnown(i)
	}
}

// bound lets go of the oldest that could be given again, if they are too many.
func (m *Machine) bound() {
	for len(m.window) > 0 && (m.count > MaxReplay || m.size > MaxReplayBytes) {
		m.discard(m.window[0], OutcomeConfirmed)
		m.window = m.window[1:]
	}
}

// age lets go of what the active copy was given too long before it was last known to live.
func (m *Machine) age() {
	if m.active == nil {
		return
	}
	for len(m.window) > 0 && m.window[0].givenAt < m.active.lastAlive().Add(-m.cfg.Replay) {
		m.discard(m.window[0], OutcomeConfirmed)
		m.window = m.window[1:]
	}
}

// rewind makes pending again what a copy, last known to live at alive, was given shortly before and has confirmed, from
// an id on.
func (m *Machine) rewind(alive Instant, from int64) int {
	var again, kept []*item
	for _, i := range m.window {
		if i.ID < from {
			kept = append(kept, i)
			continue
		}
		if i.givenAt < alive.Add(-m.cfg.Replay) || i.again >= MaxAgain {
			m.discard(i, OutcomeConfirmed)
			continue
		}
		i.again++
		i.confirmed, i.turn, i.back = false, 0, m.now
		m.store(i)
		again = append(again, i)
	}
	m.window = kept
	m.pending = append(again, m.pending...)
	m.sort()
	return len(again)
}

// signed takes note of a call that shows that updates were handled. What a process sends before it polls, such as a
// greeting, shows nothing.
func (m *Machine) signed(in Signed) {
	if c := m.find(in.Copy); c == nil || in.Began < c.sureFrom || in.Began >= c.sureTo {
		return
	}
	signs := func(i *item) bool {
		return i.to == in.Copy && i.givenAt < in.Began &&
			(i.Chat != 0 && slices.Contains(in.Chats, i.Chat) || i.Query != "" && i.Query == in.Query)
	}
	m.window = slices.DeleteFunc(m.window, func(i *item) bool {
		if !signs(i) {
			return false
		}
		m.discard(i, OutcomeConfirmed)
		return true
	})
	m.pending = slices.DeleteFunc(m.pending, func(i *item) bool {
		if !signs(i) {
			return false
		}
		if i.stored && i.turn == 0 { // to be given again
			if in.Began >= i.back {
				return false // not a call of the process that had it
			}
			m.discard(i, OutcomeConfirmed)
			return true
		}
		i.signed = true
		return false
	})
}

// tell puts out what this step has changed.
func (m *Machine) tell() {
	for _, o := range []Outcome{OutcomeConfirmed, OutcomeExpired} {
		if ids := m.ended[o]; len(ids) > 0 {
			m.emit(Done{ids, o})
		}
	}
	clear(m.ended)
	if !m.full && !m.roster && len(m.changed) == 0 {
		return
	}
	m.seq++
	if m.full {
		m.emit(Replicate{m.Full()})
	} else {
		m.emit(Replicate{m.delta()})
	}
	m.full, m.roster, m.changed = false, false, nil
}

func (i *item) kept(now Instant, whole bool) Kept {
	k := Kept{Update: i.Update, GivenAgo: now.Sub(i.givenAt), Again: i.again, Pending: !i.confirmed}
	if k.Expires != 0 {
		k.ExpiresIn, k.Expires = max(k.Expires.Sub(now), 1), 0
	}
	if !whole {
		k.Raw = nil
	}
	return k
}

// delta is what has changed in this step.
func (m *Machine) delta() Delta {
	d := Delta{Version: Version{m.term, m.seq}}
	for _, c := range m.changed {
		if c.gone {
			d.Removed = append(d.Removed, c.ID)
		} else if c.stored {
			d.Kept = append(d.Kept, c.kept(m.now, c.whole))
		}
	}
	if m.roster {
		r := m.theRoster()
		d.Roster = &r
	}
	return d
}

// Full returns all that the other replicas have to know, for one that has missed a delta.
func (m *Machine) Full() Delta {
	r := m.theRoster()
	d := Delta{Version: Version{m.term, m.seq}, Full: true, Roster: &r}
	for _, list := range [][]*item{m.window, m.pending} {
		for _, i := range list {
			if i.stored {
				d.Kept = append(d.Kept, i.kept(m.now, true))
			}
		}
	}
	return d
}
