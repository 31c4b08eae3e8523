package service

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mymmrac/telego"
	"github.com/mymmrac/telego/telegoutil"

	"habot/app/simulator"
)

const (
	benchChats = 20
	benchToken = "123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi" // telego takes no other form
)

// way is one way of a bot to a simulated Telegram of its own.
type way struct {
	name string
	sim  *simulator.Simulator
	// took and used are the time and the processor time of all that was measured.
	took, used time.Duration
}

// part has what f starts counted as this part of the work in a profile: go tool pprof -tags.
func part(name string, f func()) {
	pprof.Do(context.Background(), pprof.Labels("part", name), func(context.Context) { f() })
}

// newWay starts a bot whose Bot API server is Telegram itself, or the gateway of the primary of three replicas, or of a standby.
func newWay(b *testing.B, name string, atOnce bool) *way {
	b.Helper()
	w := &way{name: name, sim: simulator.New(simulator.Config{Token: benchToken, Chats: benchChats, Logger: slog.New(slog.DiscardHandler)})}
	var server *httptest.Server
	part(name+": Telegram", func() { server = httptest.NewServer(w.sim.Handler()) })
	b.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	root := server.URL
	if name != "directly" {
		gateways := w.replicas(b, server.URL)
		eventually(b, "a replica polls", func() bool { return gateways[w.sim.Report().Poller] != "" })
		primary := w.sim.Report().Poller
		root = gateways[primary]
		if name == "through a standby" {
			for other := range gateways {
				if other != primary {
					root = gateways[other]
				}
			}
		}
	}
	part(name+": bot", func() { answerAll(b, root, atOnce) })
	return w
}

// replicas starts three, and returns where their gateways are.
func (w *way) replicas(b *testing.B, api string) map[string]string {
	b.Helper()
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	secret := hex.EncodeToString(random)
	peers, gateways := []string{freePort(b), freePort(b), freePort(b)}, map[string]string{}
	for i, peer := range peers {
		name, gateway := fmt.Sprintf("r%d", i), freePort(b)
		_, port, err := net.SplitHostPort(gateway)
		if err != nil {
			b.Fatal(err)
		}
		gateways[name] = "http://127.0.0.1:" + port
		cfg := load(b, "BOT_TOKEN="+benchToken, "CLUSTER_SECRET="+secret, "INSTANCES="+strings.Join(peers, ","), "PEER_ADDR="+peer,
			"HTTP_ADDR="+freePort(b), "LEASE=10s", "BACKEND=gateway", "GATEWAY_ADDR="+gateway, "REPLICA_NAME="+name, "TELEGRAM_API_URL="+api)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		part(w.name+": replicas", func() {
			go func() {
				ended <- Run(ctx, Options{Config: cfg, Name: name, Version: "test", Logger: slog.New(slog.DiscardHandler), Exit: func(int) { b.Error("a replica halted") }})
			}()
		})
		b.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
	return gateways
}

// answerAll runs a telego bot until the benchmark ends. It answers updates at once, side by side, or one after the other.
func answerAll(b *testing.B, root string, atOnce bool) {
	b.Helper()
	bot, err := telego.NewBot(benchToken, telego.WithAPIServer(root), telego.WithDiscardLogger())
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	updates, err := bot.UpdatesViaLongPolling(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for u := range updates {
			answer := func() {
				_, _ = bot.SendMessage(ctx, telegoutil.Message(u.Message.Chat.ChatID(), "x: "+u.Message.Text))
			}
			if atOnce {
				go answer()
			} else {
				answer()
			}
		}
	}()
	b.Cleanup(func() {
		stop()
		<-ended
	})
}

// answer has n updates answered that are written at once.
func (w *way) answer(b *testing.B, n int) {
	b.Helper()
	began, before := time.Now(), processor(b)
	for i := range n {
		w.sim.Write(simulator.FirstChat+int64(i%benchChats), fmt.Sprint("text ", i))
	}
	eventually(b, "all are answered", func() bool { return w.sim.Report().Unanswered == 0 })
	w.took += time.Since(began)
	w.used += processor(b) - before
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

// BenchmarkGateway is a telego bot that polls a simulated Telegram directly, through the primary of three replicas, and through a standby, all in
// one process: how many times the throughput of directly the others have, and how much processor time an update takes, with all that there
// is: the bot, Telegram and three replicas. The bot answers updates side by side, which makes the processor the limit, or one after the other,
// which makes the way there and back the limit.
//
//	go test ./app/service -run '^$' -bench Gateway -benchtime 5x
//
// With -cpuprofile, go tool pprof -tags shows what each part of the work takes.
func BenchmarkGateway(b *testing.B) {
	for _, kind := range []string{"side by side", "one by one"} {
		b.Run(kind, func(b *testing.B) {
			const many = 1000
			var ways []*way
			for _, name := range []string{"directly", "through the primary", "through a standby"} {
				w := newWay(b, name, kind == "side by side")
				w.answer(b, many) // connections are made
				w.took, w.used = 0, 0
				ways = append(ways, w)
			}
			for b.Loop() {
				for _, w := range ways {
					w.answer(b, many)
				}
			}
			for _, w := range ways {
				short := w.name[strings.LastIndex(w.name, " ")+1:]
				b.ReportMetric(ways[0].took.Seconds()/w.took.Seconds(), "times-directly-"+short)
				b.ReportMetric(float64(w.used.Microseconds())/float64(many*b.N), "cpu-µs/update-"+short)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
