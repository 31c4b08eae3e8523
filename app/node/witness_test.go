package node_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

// twoAndAWitness starts the replicas a and c, and b, which is a witness.
func twoAndAWitness(t *testing.T) (c *cluster, primary, witness *member) {
	t.Helper()
	c = newCluster(t)
	c.start("a")
	witness = c.start("b", asWitness)
	c.start("c")
	c.await(2*lease, "a primary", func() bool { return c.primary() != nil })
	return c, c.primary(), witness
}

func asWitness(m *member) { m.cfg.Election.Witness = true }

func TestAWitnessMakesAMajorityAndNeverWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, w := twoAndAWitness(t)
		for range 3 {
			time.Sleep(3 * lease)
			if p == w {
				t.Fatal("a witness is primary")
			}
			if err := p.node.Switchover(t.Context(), w.name()); !errors.Is(err, election.ErrNoSuccessor) {
				t.Errorf("a switchover to a witness: %v", err)
			}
			c.sever(p, true)
			next, took := c.successor(p, 2*lease)
			if took > lease+lease/5 {
				t.Errorf("the other took over after %s", took)
			}
			c.sever(p, false)
			p = next.who
		}
		time.Sleep(3 * lease)
		p.leave(nil)
		c.successor(p, fewTrips)
		w.leave(nil) // it goes on granting for as long as it may
		c.await(8*lease, "no work without a majority", func() bool { return c.primary() == nil })
	})
}

func TestAnUnhealthyPrimaryDoesNotHandOverToAWitness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, w := twoAndAWitness(t)
		for _, m := range c.all() {
			if m != p {
				c.sever(m, m != w) // the other replica is gone
			}
		}
		time.Sleep(10 * lease)
		p.node.SetHealth(election.Health{Detail: "no way to Telegram"})
		time.Sleep(10 * lease)
		if len(c.terms()) != 1 || c.primary() != p {
			t.Errorf("%d terms", len(c.terms()))
		}
	})
}

// What a majority is to know a witness knows, and it hands it to a primary that does not.
func TestAWitnessKeepsNotesAndHandsThemDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, w := twoAndAWitness(t)
		time.Sleep(3 * lease)
		other := c.others(p)[slices.IndexFunc(c.others(p), func(m *member) bool { return m != w })]
		c.sever(other, true)
		time.Sleep(5 * lease) // it is not reachable any more
		term := c.last().term
		term.Note(note("kept"))
		time.Sleep(3 * hop)
		if !term.Noted() {
			t.Error("the primary and the witness are a majority, and know")
		}
		c.sever(p, true)
		c.sever(other, false)
		next, _ := c.successor(p, 3*lease)
		next.term.Gather(t.Context())
		soon, cancel := context.WithTimeout(t.Context(), lease)
		defer cancel()
		if notes, _, ok := next.term.Late(soon); next.who != other || !ok || texts(notes) != `"kept"` {
			t.Errorf("%s took over, and the witness handed in %s, %t", next.who.name(), texts(notes), ok)
		}
	})
}

// A witness that was away when notes came gets them when it answers again. What was handled it is not told.
func TestAWitnessIsToldNotesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, w := twoAndAWitness(t)
		time.Sleep(3 * lease)
		told := func(m *member) int {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.told[m.name()]
		}
		other := c.others(p)[slices.IndexFunc(c.others(p), func(m *member) bool { return m != w })]
		term := c.last().term
		before, beforeOther := told(w), told(other)
		for id := range int64(100) {
			term.Report([]int64{id})
			time.Sleep(4 * hop)
		}
		if n := told(w) - before; n != 0 {
			t.Errorf("a witness was told %d times what was handled", n)
		}
		if n := told(other) - beforeOther; n != 100 {
			t.Errorf("a standby was told %d times of 100", n)
		}
		// what is handled while notes are under way does not follow them
		c.slow(50 * hop)
		before = told(w)
		term.Note(note("first"))
		for id := range int64(10) {
			time.Sleep(hop)
			term.Report([]int64{id})
		}
		time.Sleep(200 * hop)
		if n := told(w) - before; n != 1 || !term.Noted() {
			t.Errorf("a witness was told %d times, and all know: %t", n, term.Noted())
		}
		c.slow(0)
		c.sever(w, true)
		time.Sleep(5 * lease)
		term.Note(note("kept"))
		time.Sleep(5 * lease)
		if !term.Noted() {
			t.Error("a majority knows, and the witness is not there")
		}
		c.sever(w, false)
		before = told(w)
		time.Sleep(lease)
		if n := told(w) - before; n == 0 || !term.Noted() {
			t.Errorf("the witness is back, was told %d times, and knows: %t", n, term.Noted())
		}
		// another process there knows nothing
		w.leave(nil)
		<-w.exited
		w = c.start("b", asWitness)
		time.Sleep(3 * lease)
		if told(w) == before || !term.Noted() {
			t.Error("a witness that has started again does not know")
		}
	})
}

func TestAWitnessShowsWhatItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p, w := twoAndAWitness(t)
		time.Sleep(3 * lease)
		for _, m := range c.all() {
			values := map[string]float64{}
			families, err := m.reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if g := f.GetMetric()[0].GetGauge(); g != nil {
					values[f.GetName()] = g.GetValue()
				}
			}
			_, healthy := values["habot_healthy"]
			if is := m == w; healthy == is || (values["habot_witness"] == 1) != is || values["habot_witnesses_reachable"] != 1 || values["habot_replicas_reachable"] != 3 {
				t.Errorf("%s of %s shows %v", m.name(), p.name(), values)
			}
		}
	})
}
