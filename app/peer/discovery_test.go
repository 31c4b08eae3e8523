package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/election"
)

var errNoName = errors.New("no such host")

// names is a Resolver in memory.
type names struct {
	mu    sync.Mutex
	hosts map[string][]string // name to addresses; none: an error
	ptrs  map[string][]string // address to names; none: an error
	hangs map[string]bool     // names whose look-up ends with its context only
	asked map[string]int
}

func (n *names) LookupHost(ctx context.Context, host string) ([]string, error) {
	return n.look(ctx, func() map[string][]string { return n.hosts }, host)
}

func (n *names) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return n.look(ctx, func() map[string][]string { return n.ptrs }, addr)
}

func (n *names) look(ctx context.Context, table func() map[string][]string, what string) ([]string, error) {
	n.mu.Lock()
	if n.asked == nil {
		n.asked = map[string]int{}
	}
	n.asked[what]++
	found, ok := table()[what]
	hangs := n.hangs[what]
	n.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !ok {
		return nil, errNoName
	}
	return slices.Clone(found), nil
}

func (n *names) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *names) times(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[what]
}

// discovering starts a client's discovery in a bubble; it ends with the test.
func discovering(t *testing.T, n *names, instances ...string) *Client {
	t.Helper()
	c := NewClient(ClientConfig{
		Identity: identity(t, "ours"), Self: "a", Instances: instances, Port: "7175", Logger: slog.New(slog.DiscardHandler), Resolver: n,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.RunDiscovery(ctx) }()
	t.Cleanup(func() {
		from := time.Now()
		stop()
		if err := <-ended; err != nil || time.Since(from) != 0 {
			t.Errorf("discovery ended with %v after %s", err, time.Since(from))
		}
		c.Close()
	})
	synctest.Wait()
	return c
}

func addresses(t *testing.T, c *Client, want ...string) {
	t.Helper()
	if got := c.Addresses(); !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
}

func TestInstancesAreFoundBehindTheirNames(t *testing.T) {
	t.Parallel()
	hosts := map[string][]string{
		"bot":  {"10.0.0.3", "10.0.0.1", "10.0.0.2"},
		"six":  {"2001:db8::1", "10.0.0.9"},
		"twin": {"10.0.0.1"},
	}
	for name, test := range map[string]struct{ instances, want []string }{
		"one name of many":           {[]string{"bot"}, []string{"10.0.0.1:7175", "10.0.0.2:7175", "10.0.0.3:7175"}},
		"a port of its own":          {[]string{"twin:80"}, []string{"10.0.0.1:80"}},
		"IPv6 behind a name":         {[]string{"six"}, []string{"10.0.0.9:7175", "[2001:db8::1]:7175"}},
		"two names of one":           {[]string{"twin", "bot"}, []string{"10.0.0.1:7175", "10.0.0.2:7175", "10.0.0.3:7175"}},
		"bare addresses":             {[]string{"192.0.2.1", "192.0.2.2:80"}, []string{"192.0.2.1:7175", "192.0.2.2:80"}},
		"bare IPv6":                  {[]string{"2001:db8::2", "[2001:db8::3]", "[2001:db8::4]:80"}, []string{"[2001:db8::2]:7175", "[2001:db8::3]:7175", "[2001:db8::4]:80"}},
		"a name that does not exist": {[]string{"nobody", "twin"}, []string{"10.0.0.1:7175"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &names{hosts: hosts}
				addresses(t, discovering(t, n, test.instances...), test.want...)
				for _, a := range []string{"192.0.2.1", "2001:db8::2"} {
					if n.times(a) > 0 {
						t.Errorf("the bare address %s was looked up", a)
					}
				}
			})
		})
	}
}

func TestNoMoreAddressesThanTheBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var many []string
		for i := range 3 * maxAddresses {
			many = append(many, fmt.Sprintf("10.0.%d.%d", i/256, i%256))
		}
		c := discovering(t, &names{hosts: map[string][]string{"bot": many}}, "bot")
		if got := c.Addresses(); len(got) != maxAddresses {
			t.Errorf("%d addresses", len(got))
		}
	})
}

func TestNamesAreLookedUpAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{"bot": {"10.0.0.1"}}}
		c := discovering(t, n, "bot")
		n.set(func() { n.hosts["bot"] = []string{"10.0.0.2"} })
		time.Sleep(lookupEvery)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175") // the answer may have been partial
		time.Sleep(lingers + lookupEvery)
		synctest.Wait()
		addresses(t, c, "10.0.0.2:7175")
	})
}

func TestCompleteOnceEveryNameWasLookedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{"bot": {"10.0.0.1"}}, hangs: map[string]bool{"other": true}}
		c := discovering(t, n, "bot", "other", "nobody")
		if c.Complete() {
			t.Error("complete while a name is being looked up")
		}
		time.Sleep(lookupTimeout)
		synctest.Wait()
		if !c.Complete() {
			t.Error("not complete after every name was looked up, be it in vain")
		}
	})
}

func TestFailedLookupKeepsWhatWasKnown(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(n *names){
		"an error":   func(n *names) { delete(n.hosts, "bot") },
		"no address": func(n *names) { n.hosts["bot"] = nil },
		"no answer":  func(n *names) { n.hangs = map[string]bool{"bot": true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &names{hosts: map[string][]string{"bot": {"10.0.0.1"}, "other": {"10.0.0.8"}}}
				c := discovering(t, n, "bot", "other")
				n.set(func() {
					fail(n)
					n.hosts["other"] = []string{"10.0.0.9"}
				})
				before := n.times("bot")
				time.Sleep(10 * lookupEvery)
				synctest.Wait()
				addresses(t, c, "10.0.0.1:7175", "10.0.0.9:7175") // and one name does not delay others
				if n.times("bot")-before < 5 {
					t.Error("it is not tried any more")
				}
				n.set(func() { n.hangs, n.hosts["bot"] = nil, []string{"10.0.0.2"} })
				time.Sleep(2 * lookupEvery)
				synctest.Wait()
				addresses(t, c, "10.0.0.2:7175", "10.0.0.9:7175")
			})
		})
	}
}

func TestLookupsAreCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{"bot": {"10.0.0.1"}}}
		c := discovering(t, n, "bot")
		const quiet, busy = 20 * lookupEvery, 20 * lookupSoon
		time.Sleep(quiet)
		synctest.Wait()
		if got := n.times("bot"); got != 21 {
			t.Errorf("%d look-ups in %s, want one every %s", got, quiet, lookupEvery)
		}
		before := n.times("bot")
		for from := time.Now(); time.Since(from) < busy; time.Sleep(time.Millisecond) {
			c.Refresh()
		}
		synctest.Wait()
		if got := n.times("bot") - before; got > 21 || got < 19 {
			t.Errorf("%d look-ups in %s of refreshing, want one every %s", got, busy, lookupSoon)
		}
	})
}

func TestRefreshIsHeededSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{"bot": {"10.0.0.1"}}}
		c := discovering(t, n, "bot")
		time.Sleep(100 * time.Millisecond)
		n.set(func() { n.hosts["bot"] = []string{"10.0.0.2"} })
		from := time.Now()
		for range 10 {
			c.Refresh()
		}
		if took := time.Since(from); took != 0 {
			t.Errorf("Refresh blocked for %s", took)
		}
		time.Sleep(lookupSoon)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175")
	})
}

func TestOwnAddressIsLeftOutOnceItAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{"bot": {"10.0.0.1", "10.0.0.2"}}}
		c := discovering(t, n, "bot")
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175")
		c.recognise("10.0.0.1:7175", "b")
		c.recognise("10.0.0.2:7175", c.cfg.Self)
		addresses(t, c, "10.0.0.1:7175")
		time.Sleep(ownFor - lookupEvery)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175")
		// It may be another replica's by then: it is asked again.
		time.Sleep(2 * lookupEvery)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175")
	})
}

func TestReplicaRecognisesItselfInAnswers(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(ctx context.Context, c *Client) error{
		"to a question": func(ctx context.Context, c *Client) error {
			_, err := c.Status(ctx, "b:7175")
			return err
		},
		"to a claim": func(ctx context.Context, c *Client) error {
			_, err := c.Claim(ctx, "b:7175", claimRequest("a"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				for self, want := range map[election.ReplicaID]bool{"a": false, "b": true} { // the server says that it is b
					c, _ := s.client("ours")
					c.cfg.Self = self
					if err := ask(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					if got := !c.discovery.self["b:7175"].IsZero(); got != want {
						t.Errorf("%s takes b's address for its own: %v", self, got)
					}
				}
			})
		})
	}
}

func TestOwnNameIsTheNetworksNameOfTheOwnAddress(t *testing.T) {
	t.Parallel()
	n := func() *names {
		return &names{
			hosts: map[string][]string{"bot": {"10.0.0.1", "10.0.0.2"}, "elsewhere": {"192.0.2.1"}},
			ptrs:  map[string][]string{"10.0.0.1": {"habot-bot-1.habot_default."}, "10.0.0.2": {"10.0.0.2", "habot-bot-2.habot_default."}},
		}
	}
	for name, test := range map[string]struct {
		instances, own []string
		change         func(n *names)
		want           string
		took           time.Duration
	}{
		"found":                     {[]string{"bot:7175"}, []string{"172.17.0.2", "10.0.0.2"}, nil, "habot-bot-2", 0},
		"among other instances":     {[]string{"nobody", "192.0.2.7", "elsewhere", "bot"}, []string{"10.0.0.1"}, nil, "habot-bot-1", 0},
		"only bare addresses":       {[]string{"10.0.0.1", "10.0.0.2:80", "[::1]:80", "2001:db8::1"}, []string{"10.0.0.1"}, nil, "host", 0},
		"its own bare address":      {[]string{"bot", "10.0.0.1:7175"}, []string{"10.0.0.1"}, nil, "host", 0},
		"no instances":              {nil, []string{"10.0.0.1"}, nil, "host", 0},
		"not among the instances":   {[]string{"bot"}, []string{"10.0.0.77"}, nil, "host", nameTimeout},
		"names that do not exist":   {[]string{"nobody"}, []string{"10.0.0.1"}, nil, "host", nameTimeout},
		"a look-up that hangs":      {[]string{"bot"}, []string{"10.0.0.1"}, func(n *names) { n.hangs = map[string]bool{"bot": true} }, "host", nameTimeout},
		"a name behind which hangs": {[]string{"bot"}, []string{"10.0.0.1"}, func(n *names) { n.hangs = map[string]bool{"10.0.0.1": true} }, "host", nameTimeout},
		"an address without a name": {[]string{"elsewhere"}, []string{"192.0.2.1"}, nil, "host", nameTimeout},
		"an address that names itself": {[]string{"elsewhere"}, []string{"192.0.2.1"}, func(n *names) {
			n.ptrs["192.0.2.1"] = []string{"1.2.0.192.in-addr.arpa."}
		}, "host", nameTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := n()
				if test.change != nil {
					test.change(n)
				}
				from := time.Now()
				if got := ownName(t.Context(), n, test.instances, test.own, "host"); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
				if took := time.Since(from); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				if test.took == 0 && test.want == "host" && len(n.asked) > 0 {
					t.Errorf("asked for %v in vain", slices.Collect(maps.Keys(n.asked)))
				}
			})
		})
	}
}

func TestOwnNameMayLagBehindItsContainer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &names{hosts: map[string][]string{}, ptrs: map[string][]string{}}
		from := time.Now()
		time.AfterFunc(250*time.Millisecond, func() { n.set(func() { n.hosts["bot"] = []string{"10.0.0.2"} }) })
		time.AfterFunc(450*time.Millisecond, func() { n.set(func() { n.ptrs["10.0.0.2"] = []string{"habot-bot-2.habot_default."} }) })
		got := ownName(t.Context(), n, []string{"bot"}, []string{"10.0.0.2"}, "host")
		if took := time.Since(from); got != "habot-bot-2" || took != 500*time.Millisecond {
			t.Errorf("%q after %s", got, took)
		}
		if asked := n.times("bot"); asked != 6 {
			t.Errorf("asked %d times, want every %s", asked, nameEvery)
		}
	})
}

func TestOwnNameEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		from := time.Now()
		if got := OwnName(ctx, &names{}, []string{"bot"}, "host"); got != "host" || time.Since(from) != 0 {
			t.Errorf("%q after %s", got, time.Since(from))
		}
	})
}

func TestNamesForPeople(t *testing.T) {
	t.Parallel()
	for ptr, want := range map[string]string{
		"habot-bot-2.habot_default.":                   "habot-bot-2",
		"habot-bot-2.habot_default":                    "habot-bot-2",
		"habot_bot.2.xk3f9vh2q0p6c1a4.habot_default.":  "habot_bot.2",
		"habot_bot.12.xk3f9vh2q0p6c1a4.habot_default.": "habot_bot.12",
		"server7.example.org.":                         "server7",
		"server7":                                      "server7",
		"bot.7.":                                       "bot",
		"2.0.0.10.in-addr.arpa.":                       "",
		"b.a.9.8.7.6.5.4.3.2.1.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.": "",
		"10.0.0.2":               "",
		"10.0.0.2.":              "",
		"2001:db8::1":            "",
		"7.example.org.":         "",
		"localhost.":             "",
		"localhost.localdomain.": "",
		"":                       "",
		".":                      "",
		"bot\x1b[31m\n.net.":     "bot[31m",
		"bötchen.net.":           "btchen",
	} {
		if got := readable(ptr); got != want {
			t.Errorf("readable(%q) = %q, want %q", ptr, got, want)
		}
	}
	long := readable(string(slices.Repeat([]byte("x"), 300)) + ".net.")
	if len(long) != 64 {
		t.Errorf("a name of %d letters", len(long))
	}
}
