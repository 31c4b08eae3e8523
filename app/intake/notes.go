package intake

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"habot/app/update"
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

// inherit takes in what earlier terms have noted: parts of answers that were sent, and updates that were kept, which go to the
// ends of their queues. From then on it is this term's to note. It returns false if there is no room for all: the rest MUST
// stay with those that know it.
func (r *run) inherit(ctx context.Context, notes []json.RawMessage) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := map[int]json.RawMessage{}
	for _, raw := range notes {
		var n note
		if json.Unmarshal(raw, &n) != nil || n.ID == 0 {
			continue
		}
		if n.Parts > 0 {
			r.parts[n.ID] = max(n.Parts, r.parts[n.ID])
		}
		if n.Update != nil && !r.offsets.has(n.ID) {
			kept[n.ID] = n.Update
		}
	}
	all = true
	for _, id := range slices.Sorted(maps.Keys(kept)) {
		list, err := update.Split(slices.Concat([]byte("["), kept[id], []byte("]")))
		if err != nil || len(list) != 1 || list[0].ID != int64(id) {
			continue
		}
		if all = r.kept.takes(len(kept[id])); !all {
			break // what comes after it is not to overtake it
		}
		r.offsets.hold(id)
		r.kept.add(id, kept[id])
		r.kept.offered = append(r.kept.offered, id) // it may not be confirmed yet, and known to few
		r.kept.looks = 0
		r.enqueue(ctx, list[0])
	}
	if len(notes) > 0 {
		r.note()
	}
	return all
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
	r.term.Note(all)
}

// settle forgets parts of answers to updates that are in hand no longer: nothing waits beside what is. r.mu MUST be held.
func (r *run) settle() {
	n := len(r.parts)
	maps.DeleteFunc(r.parts, func(id, _ int) bool { return !r.offsets.seen(id) && !r.offsets.holds(id) })
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
