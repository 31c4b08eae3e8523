package bot

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// note is one thing that a term's work wants its successor to know, beside what is handled. Whatever a reader does not know
// it leaves aside.
type note struct {
	// ID is an update in hand, of whose answer so many Parts have been sent.
	ID    int `json:"update_id,omitempty"`
	Parts int `json:"parts,omitempty"`
	// Update is one that is kept: Telegram may have forgotten it.
	Update json.RawMessage `json:"update,omitempty"`
}

// inherit takes in what the last term's work has noted.
func (r *run) inherit(notes []json.RawMessage) {
	for _, raw := range notes {
		var n note
		if json.Unmarshal(raw, &n) != nil || n.ID == 0 {
			continue
		}
		if n.Parts > 0 {
			r.parts[n.ID] = n.Parts
		}
		if n.Update != nil && r.kept.takes(len(n.Update)) {
			r.kept.add(n.ID, n.Update)
		}
	}
}

// note tells the standbys what there is to note now. r.mu MUST be held.
func (r *run) note() {
	ids := slices.AppendSeq(slices.Collect(maps.Keys(r.parts)), maps.Keys(r.kept.contents))
	slices.Sort(ids)
	var all []json.RawMessage
	for _, id := range slices.Compact(ids) {
		if raw, err := json.Marshal(note{ID: id, Parts: r.parts[id], Update: r.kept.contents[id]}); err == nil {
			all = append(all, raw)
		}
	}
	r.kept.notedAt = time.Now()
	r.term.Note(all)
}

// settle forgets parts of answers to updates that are in hand no longer: nothing waits beside what is. r.mu MUST be held.
func (r *run) settle() {
	n := len(r.parts)
	maps.DeleteFunc(r.parts, func(id, _ int) bool { return !r.book.knows(id) && !r.book.kept[id] })
	if len(r.parts) != n {
		r.note()
	}
}

// sent is how many parts of the answer to an update have been sent.
func (r *run) sent(id int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[id]
}

// partSent takes note that one more part was sent, and it was not the last.
func (r *run) partSent(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[id]++
	r.note()
}
