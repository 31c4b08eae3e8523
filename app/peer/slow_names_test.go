package peer

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowNames answers after a while, as the system does whose first name server is dead: it asks the second after five seconds.
type slowNames struct {
	names
	takes time.Duration

	mu    sync.Mutex
	now   int
	most  int // look-ups at once
	total int
}

func (s *slowNames) LookupHost(ctx context.Context, host string) ([]string, error) {
	s.mu.Lock()
	s.now++
	s.total++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.names.LookupHost(ctx, host)
}

// discoverAs starts a client's discovery by any resolver in a bubble; it ends with the test.
func discoverAs(t *testing.T, r Resolver, instances ...string) (*Client, *logged) {
	t.Helper()
	log := &logged{}
	c := NewClient(ClientConfig{Identity: identity(t, "ours"), Self: "a", Instances: instances, Port: "7175", Logger: slog.New(log), Resolver: r})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.RunDiscovery(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return c, log
}

func TestSlowNameServersAnswersCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowNames{names: names{hosts: map[string][]string{"bot": {"10.0.0.1", "10.0.0.2"}}}, takes: 5010 * time.Millisecond}
		c, log := discoverAs(t, s, "bot", "192.0.2.1")
		time.Sleep(lookupTimeout)
		synctest.Wait()
		addresses(t, c, "192.0.2.1:7175") // a slow one does not delay others
		if !c.Complete() {
			t.Error("a candidate below a majority would wait for a name server")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175", "192.0.2.1:7175")
		time.Sleep(time.Minute)
		synctest.Wait()
		addresses(t, c, "10.0.0.1:7175", "10.0.0.2:7175", "192.0.2.1:7175")
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.most > maxLookups || s.total < 15 {
			t.Errorf("%d look-ups, %d at once", s.total, s.most)
		}
		if n := log.count(slog.LevelWarn, ""); n != 0 {
			t.Errorf("%d warnings though every look-up is answered", n)
		}
	})
}

// A name that is not resolved is a warning, once a minute, and so is a name server that says nothing.
func TestNamesThatAreNotResolvedAreReported(t *testing.T) {
	t.Parallel()
	for name, resolver := range map[string]*names{
		"no such name": {},
		"no answer":    {hangs: map[string]bool{"bot": true}},
		"no address":   {hosts: map[string][]string{"bot": {}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, log := discoverAs(t, resolver, "bot")
				const what = "instance name is not resolved"
				time.Sleep(silentFor - time.Second)
				synctest.Wait()
				if n := log.count(slog.LevelWarn, what); n != 0 {
					t.Errorf("warned %d times of what may just be starting", n)
				}
				time.Sleep(lookupBound + lookupEvery + time.Second)
				synctest.Wait()
				if n := log.count(slog.LevelWarn, what); n != 1 {
					t.Errorf("warned %d times", n)
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if n := log.count(slog.LevelWarn, what); n < 4 || n > 6 {
					t.Errorf("warned %d times in five minutes", n)
				}
				resolver.set(func() { resolver.hangs, resolver.hosts = nil, map[string][]string{"bot": {"10.0.0.1"}} })
				time.Sleep(lookupBound + lookupEvery)
				synctest.Wait()
				addresses(t, c, "10.0.0.1:7175")
				if n := log.count(slog.LevelInfo, "instance name is resolved again"); n != 1 {
					t.Errorf("said %d times that it is resolved", n)
				}
			})
		})
	}
}
