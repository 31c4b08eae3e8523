package relay

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/queues"
	"habot/app/update"
)

// Backends die, come back, fail, hang and answer late at random, and the role moves, planned or by a crash: nothing is
// lost, and each chat is handled in order.
func TestRelayAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { relayAtRandom(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

// chaos is what may go wrong, and what was seen.
type chaos struct {
	*world
	mu     sync.Mutex
	random *rand.Rand
	calm   bool
	chats  map[int64][]int64 // what was given, by chat
	took   map[int64]bool    // a backend has answered 200, or was about to
}

func (c *chaos) roll(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

// backend is one at an address.
func (c *chaos) backend(addr string) http.HandlerFunc {
	return c.note(addr, func(rw http.ResponseWriter, req *http.Request, id int64) {
		c.mu.Lock()
		for _, ids := range c.chats {
			if at := slices.Index(ids, id); at > 0 && !c.took[ids[at-1]] {
				c.t.Errorf("%d is sent before %d is handled", id, ids[at-1])
			}
		}
		calm, dice, wait := c.calm, c.random.IntN(20), time.Duration(c.random.IntN(200))*time.Millisecond
		c.mu.Unlock()
		if !calm {
			switch dice {
			case 0:
				rw.WriteHeader(http.StatusInternalServerError)
				return
			case 1:
				rw.Header().Set("Retry-After", "2")
				rw.WriteHeader(http.StatusTooManyRequests)
				return
			case 2:
				panic(http.ErrAbortHandler)
			case 3:
				wait = 12 * time.Second // longer than the time-out
			}
		}
		select {
		case <-time.After(wait):
		case <-req.Context().Done(): // killed, or given up
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.took[id] = true
	})
}

func relayAtRandom(t *testing.T, random *rand.Rand) {
	const three = "10.0.0.3:8000"
	addrs := []string{one, two, three}
	c := &chaos{random: random, chats: map[int64][]int64{}, took: map[int64]bool{}}
	c.world = newWorldWith(t, "http://mybot:8000", func(cfg *Config) { cfg.Timeout = 10 * time.Second }, addrs...)
	for _, addr := range addrs {
		c.host(addr).kill()
		c.serve(addr, c.backend(addr))
	}
	id, terms := int64(0), 0
	for range 200 + c.roll(200) {
		for range c.roll(3) {
			id++
			chat := int64(1 + c.roll(6))
			c.mu.Lock()
			c.chats[chat] = append(c.chats[chat], id)
			c.mu.Unlock()
			c.give(chat, id)
		}
		c.after(time.Duration(c.roll(400)) * time.Millisecond)
		addr := addrs[c.roll(len(addrs))]
		switch c.roll(15) {
		case 0:
			if h := c.host(addr); h != nil {
				h.kill()
			}
		case 1, 2:
			c.net.set(func() { delete(c.net.lost, addr) })
			if c.host(addr) == nil {
				c.serve(addr, c.backend(addr))
			}
		case 3:
			if c.host(addr) == nil {
				c.net.set(func() { c.net.lost[addr] = true })
			}
		case 4:
			c.net.set(func() { c.net.names["mybot"] = slices.Clone(addrs[c.roll(2):]) })
		case 5:
			c.net.set(func() { c.net.slow[addr] = time.Duration(c.roll(500)) * time.Millisecond })
		}
		if c.roll(80) == 0 {
			terms++
			c.move(c.roll(2) == 0)
		}
	}
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	c.net.set(func() { c.net.names["mybot"] = addrs; clear(c.net.lost); clear(c.net.slow) })
	for _, addr := range addrs {
		if c.host(addr) == nil {
			c.serve(addr, c.backend(addr))
		}
	}
	c.after(5 * time.Minute)
	c.world.mu.Lock()
	for chat, ids := range c.chats {
		if got := c.order[chat]; !slices.Equal(got, ids) {
			t.Errorf("chat %d was handled as %v, want %v", chat, got, ids)
		}
	}
	for id, o := range c.by {
		if o != update.Answered {
			t.Errorf("%d: %s", id, o)
		}
	}
	c.world.mu.Unlock()
	t.Logf("%d updates, sent %d times in %d terms", id, len(c.sent(0)), 1+terms)
	if s := c.Snapshot(); s.Waiting != 0 || len(s.Addresses) != len(addrs) {
		t.Errorf("%+v", s)
	}
}

// move ends the term, planned or by a crash, and begins the next with what is not handled.
func (c *chaos) move(planned bool) {
	bound := time.Duration(0)
	if planned {
		bound = 5 * time.Second
	}
	c.drain(bound)
	c.term(testTerm + int64(c.roll(1000)))
	var batch []int64
	c.mu.Lock()
	byID := map[int64]int64{}
	for chat, ids := range c.chats {
		for _, id := range ids {
			c.world.mu.Lock()
			_, done := c.done[id]
			c.world.mu.Unlock()
			if !done {
				batch = append(batch, id)
				byID[id] = chat
			}
		}
	}
	c.mu.Unlock()
	slices.Sort(batch)
	for _, id := range batch {
		c.give(byID[id], id)
	}
}

var _ queues.Handler = handler{}
