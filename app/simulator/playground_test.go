package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"habot/app/page"
	"habot/app/simulator/playground"
)

// folders are the files of the page.
func folders() []page.Folder { return []page.Folder{playground.Files(), page.Parts()} }

// files are the names of those in a folder.
func files(t *testing.T, folder page.Folder) []string {
	t.Helper()
	all, err := folder.Files.ReadDir(folder.Path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

func fileOf(t *testing.T, folder page.Folder, name string) string {
	t.Helper()
	raw, err := folder.Files.ReadFile(folder.Path + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The page works offline and under its policy: all that it loads is served beside it, and nothing is within it.
func TestThePageLoadsNothingButItsOwnFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	code, html := r.get("/")
	if code != http.StatusOK || !strings.Contains(html, "<title>habot: playground</title>") {
		t.Fatalf("%d %s", code, html)
	}
	texts := map[string]string{"index.html": html}
	var load func(name string)
	load = func(name string) {
		if texts[name] != "" {
			return
		}
		code, body := r.get("/page/" + name)
		if code != http.StatusOK {
			t.Errorf("%s is not served: %d", name, code)
		}
		texts[name] = body
		for _, m := range regexp.MustCompile(`from '\./([a-z.]+)'`).FindAllStringSubmatch(body, -1) {
			load(m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="page/([a-z.]+)"`).FindAllStringSubmatch(html, -1) {
		load(m[1])
	}
	if len(texts) < 8 {
		t.Fatalf("only %d files were found", len(texts))
	}
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?://|//[a-z]+\.|<script>|<style| style=| on[a-z]+="`)
	for name, text := range texts {
		if found := unsafe.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	for _, folder := range folders() { // nothing is there in vain
		for _, name := range files(t, folder) {
			if texts[name] == "" {
				t.Errorf("%s is not used", name)
			}
		}
	}
}

// Each id that a script looks for is in the page.
func TestScriptsFindWhatTheyLookFor(t *testing.T) {
	t.Parallel()
	own := folders()[0]
	html := fileOf(t, own, "index.html")
	found := 0
	for _, name := range files(t, own) {
		if !strings.HasSuffix(name, ".js") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?:\$|notice|rows|numbers)\('([a-z-]+)'`).FindAllStringSubmatch(fileOf(t, own, name), -1) {
			found++
			if !strings.Contains(html, ` id="`+m[1]+`"`) {
				t.Errorf("%s looks for %s", name, m[1])
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d were found", found)
	}
}

// Every fault that the page has a button for is one that the simulator knows.
func TestThePagesFaultsAreKnown(t *testing.T) {
	t.Parallel()
	table, _, _ := strings.Cut(fileOf(t, folders()[0], "playground.js"), "\n];")
	buttons := regexp.MustCompile(`(?m)^  \['([a-z0-9]+)', '`).FindAllStringSubmatch(table, -1)
	if len(buttons) != 9 {
		t.Errorf("%d buttons", len(buttons))
	}
	for _, m := range buttons {
		if !slices.Contains(faultKinds(), m[1]) {
			t.Errorf("there is no fault %s", m[1])
		}
	}
}

func frameOf(t *testing.T, s *Simulator) playground.Frame {
	t.Helper()
	raw, version := frames{s}.Frame(0)
	var f playground.Frame
	if err := json.Unmarshal(raw, &f); err != nil || version == 0 {
		t.Fatalf("%s, version %d: %v", raw, version, err)
	}
	return f
}

func TestThePageShowsAChatAsTheSimulatorSeesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.Project = "habot"
		r.control(`{"messages":[{"chat_id":9001,"text":"<b>hello</b>"}]}`)
		if f := frameOf(t, r.Simulator); len(f.Messages) != 1 || f.Messages[0].Delivered != "" || f.Tally.Waiting != 1 || f.Project != "habot" || f.People[0].Name != "Ada" {
			t.Errorf("before a poll: %+v", f)
		}
		time.Sleep(time.Second)
		a := r.call(alice, "getUpdates")
		if !strings.Contains(string(a.Result), `"first_name":"Ada"`) {
			t.Errorf("Ada is none: %s", a.Result)
		}
		time.Sleep(250 * time.Millisecond)
		r.call(alice, "sendMessage", "chat_id", "9001", "text", "habot-bot-1: <b>hello</b>")
		time.Sleep(time.Second)
		r.call(bob, "sendMessage", "chat_id", "9001", "text", "habot-bot-2: <b>hello</b>")
		f := frameOf(t, r.Simulator)
		m := f.Messages[0]
		if m.Text != "<b>hello</b>" || m.Delivered != alice || m.Times != 2 || m.Answers[0].Who != by(alice) || m.Answers[0].At-m.At != 1_250_000 || m.Answers[1].Who != by(bob) {
			t.Errorf("%+v", m)
		}
		if f.Tally.AnsweredTwice != 1 || f.Tally.Waiting != 0 || f.Tally.Answered != 1 {
			t.Errorf("%+v", f.Tally)
		}
		if f.Quantiles == nil || f.Quantiles.Median != 1250 {
			t.Errorf("percentiles %+v", f.Quantiles)
		}
	})
}

// A replica behind which copies of a bot are names the one that it asks for, as the simulator says that it is one.
func TestThePageShowsWhichCopyAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.control(`{"messages":[{"chat_id":9001,"text":"one"},{"chat_id":9001,"text":"two"},{"chat_id":9001,"text":"/help"}]}`)
		a := r.call(alice, "getUpdates")
		if a.header.Get("Habot-Simulator") == "" {
			t.Errorf("the answer does not say what the server is: %v", a.header)
		}
		say := func(who, copied, method, text string) {
			t.Helper()
			req := r.request(t.Context(), who, method, url.Values{"chat_id": {"9001"}, "text": {text}})
			req.Header.Set("Habot-Copy", copied)
			if a, err := r.do(req); err != nil || a.code != http.StatusOK {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		say(alice, "10.0.0.2", "getMyCommands", "")
		time.Sleep(100 * time.Millisecond)
		say(alice, "10.0.0.1", "sendMessage", "one")
		time.Sleep(400 * time.Millisecond)
		say(bob, "10.0.0.2", "sendMessage", "two")
		time.Sleep(time.Second)
		say(bob, "10.0.0.2", "sendMessage", "help")
		say(bob, "10.0.0.3", "sendMessage", "of its own accord")
		f := frameOf(t, r.Simulator)
		for i, want := range []playground.Who{{Replica: alice, Copy: "10.0.0.1"}, {Replica: bob, Copy: "10.0.0.2"}, {Replica: bob, Copy: "10.0.0.2"}} {
			if m := f.Messages[i]; len(m.Answers) != 1 || m.Answers[0].Who != want {
				t.Errorf("%s: %+v, want %+v", m.Text, m.Answers, want)
			}
		}
		if got := f.Messages[3].Bot; got != (playground.Who{Replica: bob, Copy: "10.0.0.3"}) {
			t.Errorf("what answers nothing is from %+v", got)
		}
		c := f.Copies
		if len(c.Lanes) != 3 || len(c.Spans) != 3 || len(c.Changes) != 1 || c.Changes[0].From != "10.0.0.1" || c.Changes[0].To != "10.0.0.2" || *c.Changes[0].Gap != 400_000 {
			t.Errorf("copies %+v", c)
		}
		if len(f.Lanes.Lanes) != 2 || len(f.Changes) != 0 {
			t.Errorf("replicas %+v", f.Lanes)
		}
		if _, body := r.get("/report/updates"); !strings.Contains(body, `"copy":"10.0.0.2"`) {
			t.Errorf("the report does not name it: %s", body)
		}
	})
}

func TestThePageShowsWhomFaultsHit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.control(`{"faults":[{"kind":"error500","seconds":60,"replica":"habot-bot-1"}]}`)
	r.call(alice, "getUpdates")
	r.call(alice, "getMe")
	r.call(bob, "getUpdates")
	f := frameOf(t, r.Simulator)
	if len(f.Marks) != 1 || f.Marks[0].Who != alice || f.Marks[0].Kind != FaultError500 {
		t.Errorf("marks %+v: the poll that failed is one, getMe is none", f.Marks)
	}
	if len(f.Shades) != 1 || f.Shades[0].Who != alice {
		t.Errorf("shades %+v", f.Shades)
	}
	if len(f.Lanes.Lanes) != 2 || f.Poller != bob {
		t.Errorf("lanes %+v, %s polls", f.Lanes.Lanes, f.Poller)
	}
}

func TestOtherPagesCannotWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct{ host, origin string }{
		{"localhost:8081", "http://evil.example"}, {"localhost:8081", "null"}, {"evil.example:8081", ""}, {"evil.example:8081", "http://evil.example:8081"},
	} {
		req := httptest.NewRequest(http.MethodGet, "/events", nil)
		req.Host = c.host
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		r.http.Handler.ServeHTTP(w, req)
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "data:") {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Host = "evil.example:8081"
	w := httptest.NewRecorder()
	r.http.Handler.ServeHTTP(w, req)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "by localhost") {
		t.Errorf("the page by a name that may be a stranger's: %d %s", w.Code, w.Body)
	}
}

// deaf is a watcher whose connection takes nothing.
type deaf struct {
	header http.Header
	ctx    context.Context
}

func (d deaf) Header() http.Header { return d.header }
func (d deaf) WriteHeader(int)     {}
func (d deaf) Flush()              {}
func (d deaf) Write([]byte) (int, error) {
	<-d.ctx.Done()
	return 0, d.ctx.Err()
}

// watched has so many watch who read nothing, until the test ends.
func watched(t testing.TB, s *Simulator, watchers int) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{}, watchers)
	for range watchers {
		go func() {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil)
			req.Host = "localhost"
			s.http.Handler.ServeHTTP(deaf{http.Header{}, ctx}, req)
			over <- struct{}{}
		}()
	}
	return func() {
		stop()
		for range watchers {
			<-over
		}
	}
}

// A thousand watchers, none of which reads: the bot is served as if there were none.
func TestWatchersThatDoNotReadDelayNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		end := watched(t, r.Simulator, 1000)
		for n := range 20 {
			time.Sleep(frameEvery)
			synctest.Wait()
			r.Write(FirstChat, fmt.Sprint("hello ", n))
			a := r.call(alice, "getUpdates", "offset", "-1")
			a.expect(t, http.StatusOK, "")
			a.expectTook(t, 0)
			a = r.call(alice, "sendMessage", "chat_id", "1001", "text", fmt.Sprint("hello ", n))
			a.expectTook(t, 0)
		}
		if rep := r.Report(); rep.Answered != 20 {
			t.Errorf("%d answers", rep.Answered)
		}
		end()
		time.Sleep(2 * frameEvery) // the asking ends
	})
}

// BenchmarkAccountWhileWatched is what a message, its poll and its answer cost while so many watch: some read, some do not.
// The ratio of its lines is the figure.
func BenchmarkAccountWhileWatched(b *testing.B) {
	for _, watchers := range []int{0, 1, 50, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			s := New(Config{Token: testToken, Chats: 3, Logger: slog.New(slog.DiscardHandler)})
			server := httptest.NewServer(s.Handler())
			defer server.Close()
			defer s.watching.Close()
			for n := range watchers {
				res, err := http.Get(server.URL + "/events")
				if err != nil {
					b.Fatal(err)
				}
				defer res.Body.Close()
				if n%2 == 0 {
					go func() {
						raw := make([]byte, 64<<10)
						for {
							if _, err := res.Body.Read(raw); err != nil {
								return
							}
						}
					}()
				}
			}
			call := func(method string, form url.Values) {
				req := httptest.NewRequest(http.MethodPost, "/bot"+testToken+"/"+method, strings.NewReader(form.Encode()))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				req.Header.Set("User-Agent", "habot/1 (habot-bot-1)")
				s.http.Handler.ServeHTTP(httptest.NewRecorder(), req)
			}
			var took []time.Duration
			for n := 0; b.Loop(); n++ {
				text := fmt.Sprint("hello ", n)
				began := time.Now()
				s.Write(FirstChat, text)
				call("getUpdates", url.Values{"offset": {"-1"}})
				call("sendMessage", url.Values{"chat_id": {"1001"}, "text": {text}})
				took = append(took, time.Since(began))
			}
			q := playground.QuantilesOf(took)
			b.ReportMetric(q.Median*1000, "µs-median")
			b.ReportMetric(q.P99*1000, "µs-p99")
		})
	}
}
