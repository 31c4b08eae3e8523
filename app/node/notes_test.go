package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"habot/app/election"
)

func claim(n int64) election.Claim { return election.Claim{Timestamp: n, Replica: "r"} }

// told is what a term told: its notes, and whose it has taken over.
func told(term int64, sequence uint64, notes string, settled ...int64) election.Progress {
	p := election.Progress{Claim: claim(term), Sequence: sequence}
	for _, text := range strings.Fields(notes) {
		p.Notes = append(p.Notes, json.RawMessage(text))
	}
	for _, c := range settled {
		p.Settled = append(p.Settled, election.Settled{Claim: claim(c), Sequence: 5})
	}
	return p
}

func TestNotebookHandsDownWhatNoLaterTermHasTakenOver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		heard   []election.Progress
		notes   string
		settled []int64
	}{
		"nothing":                          {nil, "", nil},
		"one term":                         {[]election.Progress{told(1, 1, "a b")}, "a b", []int64{1}},
		"its latest":                       {[]election.Progress{told(1, 1, "a b"), told(1, 2, "b")}, "b", []int64{1}},
		"an older message comes late":      {[]election.Progress{told(1, 2, "b"), told(1, 1, "a b")}, "b", []int64{1}},
		"what it noted is done":            {[]election.Progress{told(1, 1, "a"), told(1, 2, "")}, "", []int64{1}},
		"the next has taken over":          {[]election.Progress{told(1, 1, "a b"), told(2, 1, "b", 1)}, "b", []int64{2, 1}},
		"and is done with it":              {[]election.Progress{told(1, 1, "a"), told(2, 1, "a", 1), told(2, 2, "", 1)}, "", []int64{2, 1}},
		"the next did not know":            {[]election.Progress{told(1, 1, "a"), told(2, 1, "x")}, "a x", []int64{2, 1}},
		"and learned of it later":          {[]election.Progress{told(1, 1, "a"), told(2, 1, "x"), told(2, 2, "a x", 1)}, "a x", []int64{2, 1}},
		"the first one's come late":        {[]election.Progress{told(2, 1, "a x", 1), told(1, 5, "a")}, "a x", []int64{2, 1}},
		"and what it noted last was new":   {[]election.Progress{told(2, 1, "x", 1), told(1, 6, "a")}, "a x", []int64{2, 1}},
		"two did not know":                 {[]election.Progress{told(1, 1, "a"), told(2, 1, ""), told(3, 1, "")}, "a", []int64{3, 2, 1}},
		"the third had it from the second": {[]election.Progress{told(1, 1, "a"), told(3, 1, "a", 2, 1)}, "a", []int64{3, 2, 1}},
	} {
		var b notebook
		for _, p := range tt.heard {
			b.learn(0, p)
		}
		notes, settled := b.inherit(claim(100))
		var got []string
		for _, n := range notes {
			got = append(got, string(n))
		}
		var terms []int64
		for _, c := range settled {
			terms = append(terms, c.Claim.Timestamp)
		}
		if strings.Join(got, " ") != tt.notes || !slices.Equal(terms, tt.settled) {
			t.Errorf("%s: %v of the terms %v, want %s of %v", name, got, terms, tt.notes, tt.settled)
		}
	}
}

func TestNotebookIsBoundedAndForgets(t *testing.T) {
	t.Parallel()
	var b notebook
	for n := range int64(100) {
		if p := told(n+1, 1, fmt.Sprint(n)); !b.full(p) {
			b.learn(0, p)
		}
		b.learn(0, told(1000+n, 1, "")) // takes no room
	}
	if notes, settled := b.inherit(claim(2000)); len(notes) != maxPages || string(notes[0]) != "0" || len(settled) > maxSettled || len(b.pages) > 2*maxPages {
		t.Errorf("%d notes of %d terms, %d pages: what came first is kept, and the rest refused", len(notes), len(settled), len(b.pages))
	}
	if b.full(told(1, 2, "0")) || b.full(told(101, 1, "")) {
		t.Error("what a term that is known notes has room, and so has one that notes nothing")
	}
	b.learn(0, told(3000, 1, "", 1))
	if b.full(told(101, 1, "x")) {
		t.Error("there is room for one that was taken over")
	}
	later := election.Instant(notesFor) + election.Instant(time.Second)
	b.learn(later, told(4000, 1, ""))
	if notes, _ := b.inherit(claim(5000)); len(notes) != 0 {
		t.Errorf("%d notes are handed down after %v", len(notes), notesFor)
	}
}

// Several terms' notes are taken over at once as long as they have room in one message; the others' are not settled.
func TestNotebookTakesOverWhatHasRoom(t *testing.T) {
	t.Parallel()
	var b notebook
	large := strings.Repeat("1", maxInherited/2)
	for n, text := range []string{large, large + " 7", "2" + large[1:], "3"} {
		b.learn(0, told(int64(n+1), 1, text))
	}
	notes, settled := b.inherit(claim(100))
	if len(notes) != 2 || len(notes[0]) != len(large) || string(notes[1]) != "7" || len(settled) != 2 || settled[1].Claim != claim(1) {
		t.Errorf("%d notes, settled %v", len(notes), settled)
	}
}
