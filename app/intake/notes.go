package intake

import (
	"encoding/json"
	"maps"
	"slices"
)

// note is one thing that a term's work wants its successor to know, beside what is handled. Whatever a reader does not know
// it leaves aside.
type note struct {
	// ID is an update in hand, of whose answer so many Parts have been sent.
	ID    int `json:"update_id,omitempty"`
	Parts int `json:"parts,omitempty"`
}

// inherit takes in what the last term's work has noted.
func (r *run) inherit(notes []json.RawMessage) {
	for _, raw := range notes {
		var n note
		if json.Unmarshal(raw, &n) == nil && n.ID != 0 && n.Parts > 0 {
			r.parts[n.ID] = n.Parts
		}
	}
}

// note tells the standbys what there is to note now. r.mu MUST be held.
func (r *run) note() {
	var all []json.RawMessage
	for _, id := range slices.Sorted(maps.Keys(r.parts)) {
		if raw, err := json.Marshal(note{ID: id, Parts: r.parts[id]}); err == nil {
			all = append(all, raw)
		}
	}
	r.term.Note(all)
}

// settle forgets parts of answers to updates that are in hand no longer: nothing waits beside what is. r.mu MUST be held.
func (r *run) settle() {
	n := len(r.parts)
	maps.DeleteFunc(r.parts, func(id, _ int) bool { return !r.book.knows(id) })
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
