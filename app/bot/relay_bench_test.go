package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoutil"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/relay"
	"habot/app/simulator"
	"habot/app/term"
)

// What is compared: habot with webhook backends that answer at once, and a bare long-polling bot with telego, against one
// simulated Telegram each, in one process. Both answer each update with a message; the bare bot in any order, and it confirms
// before it handles.
const (
	benchChats = 20
	benchToken = "123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi" // telego takes no other form
)

// contender is one of the two, running.
type contender struct {
	sim  *simulator.Simulator
	stop func()
}

func newContender(b *testing.B, name string, run func(ctx context.Context, api string) (stop func())) *contender {
	b.Helper()
	sim := simulator.New(simulator.Config{Token: benchToken, Chats: benchChats, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	var server *httptest.Server
	part(ctx, "the simulator of "+name, func(context.Context) { server = httptest.NewServer(sim.Handler()) })
	var stop func()
	part(ctx, name, func(ctx context.Context) { stop = run(ctx, server.URL) })
	return &contender{sim, func() {
		stop()
		cancel()
		server.CloseClientConnections()
		server.Close()
	}}
}

// part has what f starts counted as this part of the work in a profile: go tool pprof -tags.
func part(ctx context.Context, name string, f func(ctx context.Context)) {
	pprof.Do(ctx, pprof.Labels("part", name), f)
}

// slowChats is how many of the chats have a backend that thinks.
const slowChats = benchChats / 2

// echoBackend answers each update with the message to send: those of the first chats after it has thought for so long, others at once.
func echoBackend(thinks time.Duration) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var u telego.Update
		if raw, err := io.ReadAll(req.Body); err != nil || json.Unmarshal(raw, &u) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if u.Message.Chat.ID < simulator.FirstChat+slowChats {
			time.Sleep(thinks)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"method": "sendMessage", "chat_id": u.Message.Chat.ID, "text": "x: " + u.Message.Text})
	}))
}

// relayed runs habot with two backends that think for so long about the updates of slow chats.
func relayed(b *testing.B, thinks time.Duration) *contender {
	return newContender(b, "relay", func(ctx context.Context, api string) func() {
		var one, two *httptest.Server
		part(ctx, "backends", func(context.Context) { one, two = echoBackend(thinks), echoBackend(thinks) })
		urls, err := relay.ParseBackends(one.URL + "," + two.URL)
		if err != nil {
			b.Fatal(err)
		}
		bot := New(Config{
			Token: benchToken, APIURL: api, Name: "x", Version: "1", Cluster: &cluster{}, Logger: slog.New(slog.DiscardHandler),
			Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {},
			Backend: &Backend{Relay: relay.Config{Backends: urls, Parallel: 40, Timeout: time.Minute}},
		})
		watching, stopWatching := context.WithCancel(ctx)
		ended := make(chan error, 2)
		drain := make(chan struct{})
		go func() { ended <- bot.RunBackends(watching) }()
		go func() {
			ended <- bot.RunAsPrimary(ctx, term.Term{
				Held: func() bool { return true }, Drain: drain, Expect: func(string, time.Duration) {}, Report: func([]int64) {},
				Note: func([]json.RawMessage) {}, Gather: func(context.Context) {}, Late: neverLate, Noted: func() bool { return false },
			})
		}()
		return func() {
			close(drain)
			<-ended
			stopWatching()
			<-ended
			one.Close()
			two.Close()
		}
	})
}

// bare runs a bot with telego alone, and telego's own HTTP client: the fastest that it has.
func bare(b *testing.B) *contender {
	return newContender(b, "bare", func(ctx context.Context, api string) func() {
		bot, err := telego.NewBot(benchToken, telego.WithAPIServer(api), telego.WithDiscardLogger())
		if err != nil {
			b.Fatal(err)
		}
		polling, stop := context.WithCancel(ctx)
		updates, err := bot.UpdatesViaLongPolling(polling, nil)
		if err != nil {
			b.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for u := range updates {
				go func() {
					_, _ = bot.SendMessage(ctx, telegoutil.Message(u.Message.Chat.ChatID(), "x: "+u.Message.Text))
				}()
			}
		}()
		return func() {
			stop()
			<-ended
		}
	})
}

// answered waits until all are answered, and returns the accounts of the last n.
func (c *contender) answered(b *testing.B, n int) []simulator.Record {
	b.Helper()
	for start := time.Now(); c.sim.Report().Unanswered > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			b.Fatalf("not all are answered: %+v", c.sim.Report())
		}
	}
	rec := httptest.NewRecorder()
	from := fmt.Sprint("/report/updates?from=", c.sim.Report().Sent-int64(n)+1) // a page of the account is bounded
	c.sim.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodGet, from, nil))
	var all []simulator.Record
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil || len(all) != n {
		b.Fatalf("%d accounts of %d: %v", len(all), n, err)
	}
	return all
}

// throughput has n updates answered that are written at once, and returns how long that took.
func (c *contender) throughput(b *testing.B, n int) time.Duration {
	b.Helper()
	start := time.Now()
	for i := range n {
		c.sim.Write(simulator.FirstChat+int64(i%benchChats), fmt.Sprint("text ", i))
	}
	var last time.Time
	for _, r := range c.answered(b, n) {
		if at := r.Answered[0].At; at.After(last) {
			last = at
		}
	}
	return last.Sub(start)
}

// latency has n updates answered, fifty a second, and returns the median time to an answer.
func (c *contender) latency(b *testing.B, n int) time.Duration {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		c.sim.Write(simulator.FirstChat+int64(i%benchChats), fmt.Sprint("one ", i))
		<-tick.C
	}
	var all []time.Duration
	for _, r := range c.answered(b, n) {
		all = append(all, r.Answered[0].At.Sub(r.Sent))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// processor is the processor time that this process has used so far.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkRelay is habot with two webhook backends beside a bare long-polling bot. Throughput (updates that wait, of twenty chats) is how
// many times the bare bot's habot's is, and how much processor time each takes, with its simulated Telegram and its backends: the processor
// is what limits both, and other programs spoil a time less than a throughput. Latency is at fifty updates a second.
//
//	go test ./app/bot -run '^$' -bench Relay -benchtime 5x
//
// With -cpuprofile, go tool pprof -tags shows what each part of the work takes.
func BenchmarkRelay(b *testing.B) {
	const many, few = 2000, 250
	ours, theirs := relayed(b, 0), bare(b)
	defer ours.stop()
	defer theirs.stop()
	ours.throughput(b, many) // connections are made
	theirs.throughput(b, many)
	b.Run("throughput", func(b *testing.B) {
		var took, used [2]time.Duration
		for b.Loop() {
			for i, c := range []*contender{ours, theirs} {
				began := processor(b)
				took[i] += c.throughput(b, many)
				used[i] += processor(b) - began
			}
		}
		n := many * b.N
		b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "times-bare-throughput")
		b.ReportMetric(float64(n)/took[0].Seconds(), "updates/s")
		b.ReportMetric(float64(used[0].Microseconds())/float64(n), "cpu-µs/update")
		b.ReportMetric(float64(used[1].Microseconds())/float64(n), "cpu-µs/update-bare")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("latency", func(b *testing.B) {
		var late, lateBare time.Duration
		for b.Loop() {
			late += ours.latency(b, few)
			lateBare += theirs.latency(b, few)
		}
		n := time.Duration(b.N)
		b.ReportMetric(float64((late/n).Microseconds())/1000, "ms-median")
		b.ReportMetric(float64((lateBare/n).Microseconds())/1000, "ms-median-bare")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkSlowChats is how long updates of ten chats wait for their answers, at some updates a second, while a backend thinks about those of
// ten other chats, each of which always has one in hand.
//
//	go test ./app/bot -run '^$' -bench SlowChats -benchtime 1x
func BenchmarkSlowChats(b *testing.B) {
	const lasts = 20 * time.Second
	for _, thinks := range []time.Duration{0, 5 * time.Second, 30 * time.Second} {
		for _, perSecond := range []int{2, 50} {
			b.Run(fmt.Sprintf("%v/%d", thinks, perSecond), func(b *testing.B) {
				c := relayed(b, thinks)
				defer c.stop()
				var all []time.Duration
				for b.Loop() {
					all = append(all, c.besideSlow(b, thinks, lasts, perSecond)...)
				}
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "ms-median")
				b.ReportMetric(float64(all[len(all)*99/100].Milliseconds()), "ms-99th")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// besideSlow has the other chats write for so long, and returns how long each of their updates waited.
func (c *contender) besideSlow(b *testing.B, thinks, lasts time.Duration, perSecond int) (waited []time.Duration) {
	b.Helper()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	began, n, slow := time.Now(), 0, 0
	for time.Since(began) < lasts {
		if thinks > 0 && time.Since(began) >= time.Duration(slow)*thinks {
			for i := range slowChats {
				c.sim.Write(simulator.FirstChat+int64(i), fmt.Sprintf("slow %d at %v", slow, began))
			}
			slow++
		}
		c.sim.Write(simulator.FirstChat+slowChats+int64(n%(benchChats-slowChats)), fmt.Sprintf("other %d at %v", n, began))
		n++
		<-tick.C
	}
	for _, r := range c.answered(b, n+slow*slowChats) {
		if r.Chat >= simulator.FirstChat+slowChats {
			waited = append(waited, r.Answered[0].At.Sub(r.Sent))
		}
	}
	return waited
}
