package bot

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/mymmrac/telego"
	"github.com/prometheus/client_golang/prometheus"

	"habot/app/diagnosis"
	"habot/app/election"
)

// saying is a bot that hears one answer of Telegram, whatever it asks, and its log.
func saying(t *testing.T, resp func() (*http.Response, error)) (*Bot, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	b, err := New(Config{
		Token: testToken, APIURL: "https://telegram.test", Name: "habot-bot-1", Version: "1.2.3", Cluster: &cluster{},
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {},
		Transport: base(func(*http.Request) (*http.Response, error) { return resp() }),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b, log
}

// Whatever Telegram, or a proxy before it, answers, with the token in it or not: it ends in updates or in an
// error that says what to do next, within bounds, and the token is in no error and in no line of the log.
func FuzzTelegramAnswers(f *testing.F) {
	for _, body := range []string{
		`{"ok":true,"result":[]}`, `{"ok":true,"result":[{"update_id":7,"message":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"},"text":"TOKEN"}}]}`,
		`{"ok":true,"result":[{"update_id":7},{"update_id":8,"message":{"chat":"TOKEN"}},{"update_id":9}]}`, `{"ok":true,"result":[{"update_id":"TOKEN"}]}`,
		`{"ok":true,"result":{"id":5,"is_bot":true,"username":"x"}}`, `{"ok":true}`, `{"ok":true,"result":null}`, `{"ok":true,"result":[null]}`,
		`{"ok":false}`, `{"ok":false,"error_code":401,"description":"no TOKEN"}`, `{"ok":false,"error_code":409,"description":"Conflict: can't use getUpdates method while webhook is active"}`,
		`{"ok":false,"error_code":429,"description":"","parameters":{"retry_after":99999999999}}`, `{"ok":false,"error_code":429,"parameters":{"retry_after":-1}}`,
		`{"ok":false,"error_code":-5,"description":"SECRET"}`, "<html>TOKEN</html>", "", "null", "[]", `{"ok":"TOKEN"}`, "\xff", `{"TOKEN":`,
	} {
		for _, status := range []int{200, 302, 401, 403, 409, 429, 500, 502} {
			f.Add(status, body, status == 403)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string, broken bool) {
		status = 200 + int(uint(status)-200)%400
		body = strings.NewReplacer("TOKEN", testToken, "SECRET", testSecret).Replace(body)
		b, log := saying(t, func() (*http.Response, error) {
			if broken {
				return nil, fmt.Errorf("read %s: %q", testToken, body)
			}
			return &http.Response{
				StatusCode: status, Header: http.Header{"Location": {"https://elsewhere.test/bot" + testToken}}, Body: io.NopCloser(strings.NewReader(body)),
			}, nil
		})
		updates, err := b.api.GetUpdates(withHeld(t.Context(), func() bool { return true }), &telego.GetUpdatesParams{})
		expectJudged(t, err, broken || status >= 500)
		if readable := idsIn(status, body); !broken && readable != nil {
			var got []int
			for _, u := range updates {
				got = append(got, u.UpdateID)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(readable) {
				t.Errorf("of the updates %v in %q were read %v, %v", readable, body, got, err)
			}
		}
		expectJudged(t, b.getMe(t.Context(), time.Minute), broken || status >= 500)
		v, err := b.send(withHeld(t.Context(), func() bool { return false }), reply{to: place{chat: 1}, text: "x"}, notifyPace())
		if v != over || !errors.Is(err, ErrLeaseLost) {
			t.Errorf("without a lease something was sent: %v, %v", v, err)
		}
		if text := log.String(); strings.Contains(text, testSecret) {
			t.Errorf("the token is in the log: %s", text)
		}
	})
}

// expectJudged fails the test unless err means something to do, and can be shown.
func expectJudged(t *testing.T, err error, mustFail bool) {
	t.Helper()
	v := judge(t.Context(), err)
	switch {
	case (v == fine) != (err == nil), v == over, v < fine, v > over:
		t.Errorf("%v is judged %d", err, v)
	case mustFail && v != transient:
		t.Errorf("%v is judged %d, but may pass", err, v)
	}
	if d := retryAfter(err); d < time.Second || d > 5*time.Minute {
		t.Errorf("%v makes us wait %v", err, d)
	}
	if strings.Contains(message(err), testSecret) {
		t.Errorf("the token is in an error: %v", err)
	}
}

// idsIn are the ids in a sound answer to getUpdates; nil if it is none. What else an update says may be beyond us.
func idsIn(status int, body string) []int {
	var a struct {
		OK     *bool             `json:"ok"`
		Result []json.RawMessage `json:"result"`
	}
	if status >= 300 || json.Unmarshal([]byte(body), &a) != nil || a.OK == nil || !*a.OK || len(a.Result) == 0 {
		return nil
	}
	ids := []int{}
	for _, raw := range a.Result {
		var fields map[string]json.RawMessage
		var id int
		if json.Unmarshal(raw, &fields) != nil || json.Unmarshal(fields["update_id"], &id) != nil || id <= 0 {
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

var tags = regexp.MustCompile(`</?(b|code)>`)

// Whatever replicas are called and say of themselves, the status is messages that Telegram takes, with nothing
// lost on the way.
func FuzzStatusText(f *testing.F) {
	f.Add(nasty, "a & b", "x", uint8(3))
	f.Add("habot-bot-1", strings.Repeat("&", 256), string(election.ReasonCrash), uint8(50))
	f.Add(strings.Repeat("\U0001F600", 64), strings.Repeat("\u00e4 ", 128), "", uint8(50))
	f.Add("a\nb", "c\nd\n\ne", "f\ng", uint8(50))
	f.Fuzz(func(t *testing.T, name, detail, reason string, peers uint8) {
		name, detail, reason = strings.ToValidUTF8(name, "?"), strings.ToValidUTF8(detail, "?"), strings.ToValidUTF8(reason, "?")
		if len(name) > 256 || len(detail) > 256 || len(reason) > 64 {
			return // refused by the decoder
		}
		v := election.View{
			Self:    election.Status{Name: name, Role: election.Primary, Health: election.Health{OK: true}},
			History: []election.Change{{Name: name, Previous: detail, Reason: election.Reason(reason), Gap: time.Second}},
		}
		for i := range int(peers % 64) {
			v.Peers = append(v.Peers, election.Peer{Reachable: i%2 == 0, Status: election.Status{Name: name, Role: election.Standby, Health: election.Health{Detail: detail}}})
		}
		text := statusText(diagnosis.Facts{View: v})
		var said strings.Builder
		for _, r := range (&Bot{}).html(place{chat: 1}, text) {
			if n := len(utf16.Encode([]rune(r.text))); n > maxText || strings.TrimSpace(r.text) == "" {
				t.Errorf("Telegram does not take a text of %d units", n)
			}
			if !validHTML(r.text) {
				t.Errorf("Telegram cannot parse %q", r.text)
			}
			said.WriteString(r.text)
		}
		bare := func(s string) string {
			return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(s, ""))), "")
		}
		if got, want := bare(said.String()), bare(text); got != want {
			t.Errorf("people read %q, want %q", got, want)
		}
		if n := strings.Count(bare(text), bare(html.EscapeString(name))); strings.TrimSpace(name) != "" && n < len(diagnosis.Replicas(v))+1 {
			t.Errorf("%q is named %d times among %d replicas", name, n, len(diagnosis.Replicas(v)))
		}
	})
}
