//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	protocol "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"habot/app/config"
	"habot/app/simulator"
)

var screenshots = flag.String("screenshots", "", "TestPlayground: the folder to which pictures of the pages are written; empty: none")

// tab is a page in Debian's Chromium.
type tab struct {
	*testing.T
	ctx  context.Context
	host string

	mu sync.Mutex
	// wrong are errors in the console, elsewhere are requests that left the page's own address.
	wrong, elsewhere []string
	requests         int
	// away: the server is; that requests to it fail is no error of the page.
	away bool
}

// openBrowser starts a browser that ends with the test.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox, chromedp.WindowSize(1100, 900),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("force-color-profile", "srgb"))
	for _, name := range []string{"/usr/lib/chromium/chromium", "/usr/bin/chromium"} {
		if _, err := os.Stat(name); err == nil {
			options = append(options, chromedp.ExecPath(name))
			break
		}
	}
	allocator, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start Chromium (apt-get install chromium): %v", err)
	}
	return browser
}

// openTab opens a page, as a newcomer does.
func openTab(t *testing.T, browser context.Context, address string) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	b := &tab{T: t, ctx: ctx, host: u.Host}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	b.do(call(protocol.Enable, protocol.EnableParams{}), call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}), chromedp.Navigate(address))
	return b
}

// call is a command of the DevTools protocol whose answer is empty.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *protocol.EventRequestWillBeSent:
		b.requests++
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.host && u.Scheme != "data" {
			b.elsewhere = append(b.elsewhere, e.Request.URL)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !(b.away && e.Entry.Source == log.EntrySourceNetwork) {
			b.wrong = append(b.wrong, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.wrong = append(b.wrong, fmt.Sprint(e.Type, e.Args))
		}
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	}
}

func (b *tab) isAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("in the browser: %v", err)
	}
}

// evaluate is what an expression is in the page.
func evaluate[A any](b *tab, expression string) A {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	a, err := chromedp.Run(ctx, chromedp.Evaluate[A](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return a
}

// text is what an element shows.
func (b *tab) text(id string) string {
	b.Helper()
	return evaluate[string](b, fmt.Sprintf("document.getElementById(%q).innerText", id))
}

func (b *tab) click(selector string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// write writes to the bot.
func (b *tab) write(words string) {
	b.Helper()
	b.do(chromedp.SendKeys(chromedp.ID("text"), words+"\r"))
}

// person picks the simulated person whose chat is shown.
func (b *tab) person(name string) {
	b.Helper()
	evaluate[bool](b, fmt.Sprintf(`[...document.querySelectorAll("#people label")].some((l) => l.textContent === %q && !l.click())`, name))
}

// shows waits until an element shows something.
func (b *tab) shows(id, want string, within time.Duration) {
	b.Helper()
	eventually(b.T, within, func() error {
		if got := b.text(id); !strings.Contains(got, want) {
			return fmt.Errorf("%s shows %q, not %q", id, got, want)
		}
		return nil
	})
}

// picture writes what the page shows at a size, if pictures are wanted.
func (b *tab) picture(name string, width, height int64, scheme string) {
	b.Helper()
	if *screenshots == "" {
		return
	}
	var raw []byte
	quality := int64(85)
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.activeElement.blur(); scrollTo(0, 0)"})
		return err
	}), call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		chromedp.Sleep(400*time.Millisecond),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			got, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality})
			raw = got.Data
			return err
		}),
		call(emulation.ClearDeviceMetricsOverride, cdp.Empty{}), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}))
	if err := os.WriteFile(filepath.Join(*screenshots, name+".webp"), raw, 0o644); err != nil {
		b.Fatal(err)
	}
}

// fits tells that nothing is wider than the window, at a phone's width.
func (b *tab) fits() {
	b.Helper()
	b.do(call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 740, DeviceScaleFactor: 2, Mobile: true}),
		chromedp.Sleep(200*time.Millisecond))
	wider := evaluate[int](b, "document.documentElement.scrollWidth - innerWidth")
	b.do(call(emulation.ClearDeviceMetricsOverride, cdp.Empty{}))
	if wider > 0 {
		b.Errorf("at a phone's width the page is %d pixels wider than the window", wider)
	}
}

// fine tells that nothing went wrong, and that nothing was asked for elsewhere.
func (b *tab) fine() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.requests < 5 {
		b.Errorf("the browser reports %d requests: nothing is watched", b.requests)
	}
	if len(b.wrong) > 0 {
		b.Errorf("errors in the browser's console: %s", strings.Join(b.wrong, "\n"))
	}
	if len(b.elsewhere) > 0 {
		b.Errorf("requests elsewhere: %v", b.elsewhere)
	}
}

// What the README has a newcomer do with the page, in a real browser.
func TestPlayground(t *testing.T) {
	p := newPack(t, 3)
	for i, m := range p.members {
		m.name = fmt.Sprintf("habot-bot-%d", i+1)
	}
	judge := stack{telegram: p.telegram}
	judge.setRate(t, 2)
	browser := openBrowser(t)
	b := openTab(t, browser, p.telegram+"/")
	b.shows("no-replica", "No replica has polled yet", 5*time.Second)
	p.start()
	primary, standbys := p.settled()
	b.shows("state", primary.name, 5*time.Second)
	r := openTab(t, browser, "http://"+standbys[0].http+"/")
	r.shows("state", "the bot answers: "+primary.name+" is primary", 5*time.Second)
	r.shows("replicas", standbys[0].name+" (this one)", time.Second)

	b.chats(primary.name)
	b.seesTheGap(p, judge, primary)
	r.shows("changes", primary.name+" stopped responding", 5*time.Second)
	b.fits()
	r.fits()
	b.poses(p, r)
	b.zooms()
	b.faults()
	b.marksTwice(judge)
	b.loads()
	crowd(t, browser, p)
	b.survives(p)
	b.fine()

	// The replica's own page, while that replica is killed and comes back.
	r.isAway(true)
	if err := standbys[0].process().Kill(); err != nil {
		t.Fatal(err)
	}
	r.shows("restarted", "This replica was restarted", 15*time.Second)
	r.isAway(false)
	r.shows("state", "the bot answers", 10*time.Second)
	r.fine()
}

// chats writes as two people.
func (b *tab) chats(primary string) {
	b.Helper()
	// What people write is text.
	const markup = `<img src="https://elsewhere.invalid/x" onerror="console.error('run')">`
	for _, words := range []string{"hello", markup} {
		b.write(words)
		b.shows("messages", primary+": "+words, 5*time.Second)
	}
	b.shows("messages", primary+", after", time.Second)
	b.write("/ping")
	b.shows("messages", "pong", 5*time.Second)
	b.person("Chen")
	if got := b.text("messages"); strings.Contains(got, "hello") {
		b.Errorf("Chen's chat shows %q", got)
	}
	b.write("I am Chen")
	b.shows("messages", primary+": I am Chen", 5*time.Second)
	b.person("Ada")
	if got := b.text("messages"); !strings.Contains(got, "hello") || strings.Contains(got, "Chen") {
		b.Errorf("Ada's chat shows %q", got)
	}
}

// seesTheGap kills the primary while the page is watched: the commands name its container, and the gap is seen.
func (b *tab) seesTheGap(p *pack, judge stack, primary *packed) {
	b.Helper()
	b.shows("plugs", "docker kill "+primary.name, time.Second)
	if err := primary.process().Kill(); err != nil {
		b.Fatal(err)
	}
	eventually(b.T, 10*time.Second, func() error {
		if got := b.text("changes"); !strings.Contains(got, primary.name) || !strings.Contains(got, " ms") {
			return fmt.Errorf("the changes show %q", got)
		}
		return nil
	})
	handover := judge.report(b.T).Handovers[0]
	b.shows("changes", fmt.Sprintf("%.0f ms", handover.GapSeconds*1000), time.Second)
	b.shows("announce", handover.To+" polls now", 2*time.Second)
	b.shows("plugs", "docker start "+primary.name, time.Second)
	b.write("still there?")
	b.shows("messages", handover.To+": still there?", 5*time.Second)
	p.settled()
}

// poses makes the pictures of the documents, if they are wanted: of a minute in which something happens.
func (b *tab) poses(p *pack, r *tab) {
	b.Helper()
	if *screenshots == "" {
		return
	}
	r.isAway(true) // the one that it shows may be among those that are killed
	for range 2 {
		b.do(chromedp.Sleep(9 * time.Second))
		primary, _ := p.settled()
		if err := primary.process().Kill(); err != nil {
			b.Fatal(err)
		}
		b.do(chromedp.Sleep(2 * time.Second))
	}
	p.settled()
	r.shows("state", "the bot answers", 10*time.Second)
	r.isAway(false)
	b.do(chromedp.SetValue(chromedp.ID("fault-seconds"), "3"))
	b.click(`#faults button[value="html502"]`)
	b.do(chromedp.Sleep(14*time.Second), chromedp.SetValue(chromedp.ID("fault-seconds"), "10"))
	b.person("Dorothy")
	for _, words := range []string{"hello", "are you still there?"} {
		b.write(words)
		b.shows("messages", ": "+words, 5*time.Second)
	}
	b.picture("playground", 1100, 900, "light")
	evaluate[string](r, `const width = document.getElementById("width"); width.value = "60"; width.dispatchEvent(new Event("change")); ""`)
	r.picture("replica", 1100, 780, "light")
	b.person("Ada")
}

// zooms goes to the gap, and back by keyboard.
func (b *tab) zooms() {
	b.Helper()
	b.click("#changes button")
	b.shows("window", " to ", 5*time.Second)
	b.do(chromedp.SendKeys(chromedp.ID("lanes"), "-\x1b"))
	b.shows("window", "live", 2*time.Second)
}

// faults has Telegram fail, and ends that.
func (b *tab) faults() {
	b.Helper()
	b.click(`#faults button[value="error500"]`)
	b.shows("faulty", "500, every replica", 3*time.Second)
	b.write("what now?")
	b.shows("messages", "waits", 5*time.Second)
	b.click("#faults-end")
	b.shows("messages", ": what now?", 15*time.Second)
	if got := b.text("faulty"); got != "" {
		b.Errorf("faults that last after all were ended: %q", got)
	}
}

// marksTwice has an answer come twice: the bot cannot know that the first one arrived.
func (b *tab) marksTwice(judge stack) {
	b.Helper()
	judge.control(b.T, simulator.Control{Faults: []simulator.Fault{
		{Kind: simulator.FaultTakenDrop, Seconds: 0.5, Methods: []string{"sendMessage"}, Chats: []int64{9001}},
	}})
	b.write("once or twice?")
	b.shows("messages", "answered again", 20*time.Second)
}

// loads has the simulated users write more: that ends by itself.
func (b *tab) loads() {
	b.Helper()
	b.do(chromedp.SetValue(chromedp.ID("load-rate"), "200"), chromedp.SetValue(chromedp.ID("load-seconds"), "3"))
	b.click("#load button")
	b.shows("load-now", "200 per second", 3*time.Second)
	b.shows("load-now", "Now 2 per second", 6*time.Second)
}

// crowd opens more event streams than are allowed, and reads none: a page that comes then shows so, and tries again.
func crowd(t *testing.T, browser context.Context, p *pack) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range 60 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.telegram+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	late := openTab(t, browser, p.telegram+"/")
	late.shows("lost", "Too many pages", 5*time.Second)
	leave()
	late.shows("state", "habot-bot-", 15*time.Second)
	late.fine()
	if err := chromedp.Cancel(late.ctx); err != nil {
		t.Fatal(err)
	}
}

// survives has the simulator freeze, come back, and start again.
func (b *tab) survives(p *pack) {
	b.Helper()
	b.isAway(true)
	process := p.simulator.process()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		b.Fatal(err)
	}
	b.shows("lost", "lost", 8*time.Second)
	if err := process.Signal(syscall.SIGCONT); err != nil {
		b.Fatal(err)
	}
	b.shows("restarted", "Connected again", 8*time.Second)
	if err := process.Kill(); err != nil {
		b.Fatal(err)
	}
	b.shows("restarted", "The simulator was restarted", 15*time.Second)
	b.isAway(false)
	b.shows("state", "habot-bot-", 30*time.Second)
	b.write("again")
	b.shows("messages", ": again", 10*time.Second)
}

// asks makes a call as a copy of a bot behind a gateway does.
func asks(ctx context.Context, client *http.Client, root, method string, params url.Values) (updates []struct {
	ID      int `json:"update_id"`
	Message struct {
		Chat struct{ ID int64 }
		Text string
	}
}, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, root+"/bot"+config.DemoToken+"/"+method, strings.NewReader(params.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var a struct{ Result json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil || res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d, %v", method, res.StatusCode, err)
	}
	if method == "getUpdates" {
		err = json.Unmarshal(a.Result, &updates)
	}
	return updates, err
}

// copyOf runs a small bot that polls a gateway and repeats what it is sent, until it is ended as by a kill: its connections close.
func copyOf(t *testing.T, gateway, name string) (kill func()) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	over := make(chan struct{})
	client := &http.Client{Transport: &http.Transport{}}
	root := "http://" + gateway + "/copy/" + name
	go func() {
		defer close(over)
		defer client.CloseIdleConnections()
		offset := 0
		for ctx.Err() == nil {
			updates, err := asks(ctx, client, root, "getUpdates", url.Values{"offset": {strconv.Itoa(offset)}, "timeout": {"10"}})
			if err != nil {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			for _, u := range updates {
				params := url.Values{"chat_id": {strconv.FormatInt(u.Message.Chat.ID, 10)}, "text": {u.Message.Text}}
				if _, err := asks(ctx, client, root, "sendMessage", params); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", name, err)
				}
				offset = u.ID + 1
			}
		}
	}()
	kill = func() {
		end()
		<-over
	}
	t.Cleanup(kill)
	return kill
}

// Both pages show which copy of a polling bot answers, and the change to another.
func TestPlaygroundShowsCopies(t *testing.T) {
	p := newPack(t, 1)
	p.members[0].name = "habot-bot-1"
	gateway := freePorts(t, 1)[0]
	p.env = []string{"BACKEND=gateway", "GATEWAY_ADDR=" + gateway}
	judge := stack{telegram: p.telegram}
	judge.setRate(t, 5)
	browser := openBrowser(t)
	b := openTab(t, browser, p.telegram+"/")
	b.shows("no-replica", "No replica has polled yet", 5*time.Second)
	p.start()
	p.settled()
	r := openTab(t, browser, "http://"+p.members[0].http+"/")
	r.shows("active", "No copy is active", 10*time.Second)
	if hidden := evaluate[bool](b, `document.getElementById("copies").hidden`); !hidden {
		t.Error("the playground shows copies, of which there are none")
	}

	kill := copyOf(t, gateway, "one")
	r.shows("active", "one is active, since ", 10*time.Second)
	copyOf(t, gateway, "two")
	r.shows("copies-rows", "standby", 10*time.Second)
	r.shows("copies-known", "Known from habot-bot-1, this replica, as primary", time.Second)
	r.shows("copies-updates", "Standing by: 1.", time.Second)
	b.write("hello")
	b.shows("messages", "copy one by habot-bot-1, after ", 5*time.Second)
	b.shows("copies-now", "one answered last", 5*time.Second)
	kill()
	b.shows("copies-changes", "two", 15*time.Second)
	b.shows("copies-now", "two answered last", 5*time.Second)
	b.shows("copies-tally", "one", 5*time.Second)
	r.shows("active", "two is active, since ", 5*time.Second)
	r.shows("copies-changes", "one has ended, as its connections show", 5*time.Second)
	b.write("still there?")
	b.shows("messages", "copy two by habot-bot-1, after ", 5*time.Second)
	b.click("#copies-changes button")
	b.shows("window", " to ", 5*time.Second)
	b.do(chromedp.SendKeys(chromedp.ID("copies-lanes"), "\x1b"))
	b.shows("window", "live", 2*time.Second)
	b.fits()
	r.fits()
	b.fine()
	r.fine()
}

// A replica's page shows webhook backends with their state.
func TestReplicaPageShowsBackends(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer backend.Close()
	p := newPack(t, 1)
	p.env = []string{"BACKEND=" + backend.URL + "/hook", "BACKEND_SECRET=a-secret-of-the-test"}
	p.start()
	p.settled()
	r := openTab(t, openBrowser(t), "http://"+p.members[0].http+"/")
	r.shows("backends-rows", "up", 10*time.Second)
	r.shows("backends-rows", "s ago", 10*time.Second)
	r.shows("backends-waiting", "No update waits for a backend.", 10*time.Second)
	backend.Close()
	r.shows("backends-rows", "connection refused", 10*time.Second)
	r.shows("backends-waiting", "Updates that wait for a backend: ", 10*time.Second)
	r.fits()
	r.fine()
}
