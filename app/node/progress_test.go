package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
	"habot/app/node"
)

func TestProgressIsHandedToTheSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		report := c.last().term.Report
		from := time.Now()
		report([]int64{0})
		synctest.Wait() // it is under way
		for id := range int64(100) {
			report([]int64{id, id + 1})
		}
		if took := time.Since(from); took != 0 {
			t.Errorf("Report blocked for %s", took)
		}
		time.Sleep(4 * hop) // there and back, twice: what came meanwhile is in the next message
		c.sever(p, true)
		next, _ := c.successor(p, 2*lease)
		if !slices.Equal(next.term.Handled, []int64{99, 100}) {
			t.Errorf("the successor was handed %v, want the latest", next.term.Handled)
		}
		c.sever(p, false)
		time.Sleep(2 * lease)
		next.term.Report([]int64{101})
		time.Sleep(4 * hop)
		if err := next.who.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		third, _ := c.successor(next.who, fewTrips)
		if !slices.Equal(third.term.Handled, []int64{101, 99, 100}) {
			t.Errorf("the third was handed %v, want what both finished", third.term.Handled)
		}
	})
}

func TestReplicaThatIsPrimaryAgainRemembersItsOwnProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		report := c.last().term.Report
		report([]int64{6}) // it receives that itself: its own address is among the others
		time.Sleep(3 * lease)
		c.sever(p, true)
		report([]int64{6, 7}) // it reaches no replica
		next, _ := c.successor(p, 2*lease)
		c.sever(p, false)
		time.Sleep(3 * lease)
		if err := next.who.node.Switchover(t.Context(), p.name()); err != nil {
			t.Fatal(err)
		}
		again, _ := c.successor(next.who, fewTrips)
		if again.who != p || !slices.Equal(again.term.Handled, []int64{6, 7}) {
			t.Errorf("%s was handed %v", again.who.name(), again.term.Handled)
		}
	})
}

func TestAReplicaThatHangsHoldsUpNoProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		hung, well := c.others(p)[0], c.others(p)[1]
		c.sever(hung, true)
		report := c.last().term.Report
		for id := range int64(50) {
			report([]int64{id})
			time.Sleep(2 * hop)
		}
		time.Sleep(2 * hop)
		p.leave(nil)
		next, _ := c.successor(p, lease)
		if next.who != well || !slices.Equal(next.term.Handled, []int64{49}) {
			t.Errorf("%s was handed %v", next.who.name(), next.term.Handled)
		}
	})
}

func TestLateProgressOfAnOlderTermCountsForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		standby := c.others(p)[0]
		now := c.last().term.Change.Claim
		older := election.Claim{Timestamp: now.Timestamp - 1, Replica: "gone"}
		for _, told := range []election.Progress{
			{Claim: now, Sequence: 100, Handled: []int64{1, 2}},
			{Claim: older, Handled: []int64{0}},
			{Claim: now, Sequence: 101, Handled: []int64{3}}, // 1 and 2 were confirmed
		} {
			if _, err := standby.node.Progress(t.Context(), told); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.node.Switchover(t.Context(), standby.name()); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, fewTrips)
		if next.who != standby || !slices.Equal(next.term.Handled, []int64{3}) {
			t.Errorf("%s was handed %v", next.who.name(), next.term.Handled)
		}
	})
}

// What was handled last is sent before the lease is released: the successor claims at once. A standby
// that hangs delays that by a stop margin at most.
func TestSuccessorKnowsWhatWasHandledLast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hangs bool
		bound time.Duration
	}{
		"all answer": {false, fewTrips},
		"one hangs":  {true, settings.StopMargin()*5/4 + fewTrips},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, p := three(t, withWork(func(ctx context.Context, term node.Term) error {
					err := untilStopped(ctx, term)
					term.Report([]int64{5})
					return err
				}))
				time.Sleep(3 * lease)
				heir := c.others(p)[0]
				c.slow(10 * hop) // the release is not to overtake it
				if test.hangs {
					c.sever(c.others(p)[1], true)
				}
				if err := p.node.Switchover(t.Context(), heir.name()); err != nil {
					t.Fatal(err)
				}
				next, took := c.successor(p, lease)
				if next.who != heir || !slices.Equal(next.term.Handled, []int64{5}) {
					t.Errorf("%s was handed %v", next.who.name(), next.term.Handled)
				}
				if took > test.bound {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// Others refuse a message with more than MaxHandled updates: what is beyond is not told.
func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		many := make([]int64, election.MaxHandled+10)
		for i := range many {
			many[i] = int64(i + 1)
		}
		c.last().term.Report(many)
		time.Sleep(4 * hop)
		c.sever(p, true)
		next, _ := c.successor(p, 2*lease)
		if !slices.Equal(next.term.Handled, many[:election.MaxHandled]) {
			t.Errorf("the successor was handed %d updates", len(next.term.Handled))
		}
	})
}

func note(text string) []json.RawMessage { return []json.RawMessage{json.RawMessage(`"` + text + `"`)} }

func texts(notes []json.RawMessage) string {
	var all []string
	for _, n := range notes {
		all = append(all, string(n))
	}
	return strings.Join(all, " ")
}

// Notes go with every report, until others replace them, and from term to term.
func TestNotesAreHandedToTheSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		term := c.last().term
		from := time.Now()
		term.Note(note("first"))
		term.Note(note("second"))
		term.Report([]int64{1})
		if took := time.Since(from); took != 0 {
			t.Errorf("it blocked for %s", took)
		}
		time.Sleep(6 * hop)
		c.sever(p, true)
		next, _ := c.successor(p, 2*lease)
		if !slices.Equal(next.term.Handled, []int64{1}) || texts(next.term.Notes) != `"second"` {
			t.Errorf("the successor was handed %v and %s", next.term.Handled, texts(next.term.Notes))
		}
		c.sever(p, false)
		time.Sleep(2 * lease)
		next.term.Report([]int64{2})
		time.Sleep(6 * hop)
		if err := next.who.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		third, _ := c.successor(next.who, fewTrips)
		if texts(third.term.Notes) != `"second"` {
			t.Errorf("the third was handed %s", texts(third.term.Notes))
		}
		third.term.Note(nil)
		third.term.Report(nil)
		time.Sleep(6 * hop)
		if err := third.who.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if fourth, _ := c.successor(third.who, fewTrips); len(fourth.term.Notes) != 0 {
			t.Errorf("the fourth was handed %s", texts(fourth.term.Notes))
		}
	})
}

// Who is reachable knows, and with the primary that is a majority: then any successor does.
func TestNotesAreKnownOnceEveryReachableReplicaHasThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		term := c.last().term
		term.Note(note("one"))
		if term.Noted() {
			t.Error("no other can know yet")
		}
		time.Sleep(3 * hop)
		if !term.Noted() {
			t.Error("all know")
		}
		term.Note(note("two"))
		c.sever(c.others(p)[0], true)
		time.Sleep(3 * hop)
		if term.Noted() {
			t.Error("one that was reachable until now does not know")
		}
		time.Sleep(5 * lease)
		if !term.Noted() {
			t.Error("a majority knows, and the third is not there")
		}
		c.slow(2*lease + 100*hop)
		c.sever(c.others(p)[0], false)
		time.Sleep(2 * lease)
		if term.Noted() {
			t.Error("one is back that does not know")
		}
		c.slow(0)
		time.Sleep(lease)
		if !term.Noted() {
			t.Error("it has been sent again, and all know")
		}
	})
}

// Replicas that are restarted one after the other receive the notes though nothing happens: so the notes outlive them all.
func TestNotesOutliveAllReplicasThatKnewThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		c.last().term.Note(note("kept"))
		time.Sleep(6 * hop)
		for i, old := range append(c.others(p), p) {
			c.sever(old, true) // for good
			c.start(fmt.Sprint("new ", i))
			time.Sleep(5 * lease)
		}
		next := c.last()
		if next.who == p || texts(next.term.Notes) != `"kept"` || !next.term.Noted() {
			t.Errorf("%s is primary, knows %s, and others do: %t", next.who.name(), texts(next.term.Notes), next.term.Noted())
		}
	})
}

// Fewer than a majority may make a primary, but not keep what is confirmed.
func TestFewerThanAMajorityAreTooFewToKnowNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		begin := func(name string) {
			c.start(name, func(m *member) { m.cfg.Election.Replicas, m.cfg.Election.Quorum = 5, 2 })
		}
		begin("a")
		begin("b")
		c.await(5*lease, "a primary", func() bool { return c.primary() != nil })
		term := c.last().term
		term.Note(note("one"))
		time.Sleep(5 * lease)
		if term.Noted() {
			t.Error("two of five know")
		}
		begin("c")
		time.Sleep(5 * lease)
		if !term.Noted() {
			t.Error("three of five know, who are all there are")
		}
	})
}

func TestAReplicaAloneHasNobodyToKnowItsNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("a", func(m *member) { m.cfg.Election.Replicas = 1 })
		c.await(2*lease, "a primary", func() bool { return c.primary() != nil })
		term := c.last().term
		term.Note(note("one"))
		time.Sleep(lease)
		if term.Noted() {
			t.Error("no other is there")
		}
	})
}

// A primary that does not know an earlier term's notes receives them from a replica that does. Then they are its own.
func TestNotesThatAPrimaryDoesNotKnowAreHandedIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		ignorant, knows := c.others(p)[0], c.others(p)[1]
		c.sever(ignorant, true)
		c.last().term.Note(note("kept"))
		time.Sleep(10 * hop)
		c.sever(ignorant, false)
		time.Sleep(2 * lease)
		if err := p.node.Switchover(t.Context(), ignorant.name()); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, fewTrips)
		if next.who != ignorant {
			t.Fatalf("%s took over", next.who.name())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*hop)
		defer cancel()
		if len(next.term.Notes) == 0 { // it may have learned them when its predecessor left
			notes, settle, ok := next.term.Late(ctx)
			if !ok || texts(notes) != `"kept"` {
				t.Fatalf("handed in were %s, %t", texts(notes), ok)
			}
			next.term.Note(notes)
			settle()
		}
		time.Sleep(lease)
		for range 3 { // settled: no replica hands it in again
			next.term.Report(nil)
			time.Sleep(6 * hop)
		}
		quick, stop := context.WithTimeout(t.Context(), 20*hop)
		defer stop()
		if notes, _, ok := next.term.Late(quick); ok {
			t.Errorf("handed in again were %s", texts(notes))
		}
		c.sever(ignorant, true)
		third, _ := c.successor(ignorant, 2*lease)
		if texts(third.term.Notes) != `"kept"` {
			t.Errorf("the third was handed %s, %s knew", texts(third.term.Notes), knows.name())
		}
	})
}

// A term gathers what others know before its work handles anything: its own address, which is among the others, tells it nothing.
func TestATermGathersWhatItsQuorumKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		ignorant := c.others(p)[0]
		c.sever(ignorant, true)
		c.last().term.Note(note("kept"))
		time.Sleep(6 * hop)
		c.slow(20 * lease) // what it receives when it is back comes too late
		c.sever(ignorant, false)
		time.Sleep(2 * lease)
		c.slow(50 * hop) // progress takes long: the work asks before it is there
		if err := p.node.Switchover(t.Context(), ignorant.name()); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, lease)
		if next.who != ignorant || len(next.term.Notes) != 0 {
			t.Fatalf("%s took over, and knows %s", next.who.name(), texts(next.term.Notes))
		}
		from := time.Now()
		next.term.Gather(t.Context())
		if took := time.Since(from); took < 50*hop || took > 60*hop {
			t.Errorf("it gathered for %s", took)
		}
		now, cancel := context.WithCancel(t.Context())
		cancel()
		if notes, _, ok := next.term.Late(now); !ok || texts(notes) != `"kept"` {
			t.Errorf("it gathered %s, %t", texts(notes), ok)
		}
	})
}

func TestGatheringEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		c.slow(time.Hour)
		if err := p.node.Switchover(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, lease)
		from := time.Now()
		next.term.Gather(t.Context())
		if took := time.Since(from); took > 2*time.Second {
			t.Errorf("it gathered for %s", took)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		next.term.Gather(ended)
	})
}

// A replica of version 1.0.0 takes no notes. Nothing is confirmed before it is handled while it may be the successor, and no term
// waits for what it cannot know.
func TestReplicaWithoutNotesKnowsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := three(t)
		time.Sleep(3 * lease)
		old := c.others(p)[0]
		c.mu.Lock()
		c.bare = map[string]bool{old.name(): true}
		c.mu.Unlock()
		term := c.last().term
		term.Report([]int64{7})
		time.Sleep(lease)
		term.Note(note("one"))
		time.Sleep(lease)
		if term.Noted() {
			t.Error("a successor may be one that knows no notes")
		}
		c.mu.Lock()
		c.bare[p.name()] = true // and so no other of the next term has any to hand in
		c.mu.Unlock()
		if err := p.node.Switchover(t.Context(), c.others(p)[1].name()); err != nil {
			t.Fatal(err)
		}
		next, _ := c.successor(p, lease)
		from := time.Now()
		next.term.Gather(t.Context())
		if took := time.Since(from); took > 6*hop {
			t.Errorf("it gathered for %s", took)
		}
		c.mu.Lock()
		c.bare = nil // it is replaced, at the same address
		c.mu.Unlock()
		next.term.Note(note("two"))
		time.Sleep(6 * hop)
		if !next.term.Noted() {
			t.Error("all know")
		}
		if err := next.who.node.Switchover(t.Context(), old.name()); err != nil {
			t.Fatal(err)
		}
		if last, _ := c.successor(next.who, lease); texts(last.term.Notes) != `"two"` || !slices.Equal(last.term.Handled, []int64{7}) {
			t.Errorf("it was handed %s and %v", texts(last.term.Notes), last.term.Handled)
		}
	})
}
