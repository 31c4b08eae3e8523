package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/election"
	"habot/app/message"
	"habot/app/telegram"
	"habot/app/update"
)

// saying is a bot that receives the same answer of Telegram to every request, and its log.
func saying(t *testing.T, resp func() (*http.Response, error)) (*Bot, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	b := New(Config{
		Token: testToken, APIURL: "https://telegram.test", Name: "habot-bot-1", Version: "1.2.3", Cluster: &cluster{},
		Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(), OnHealth: func(election.Health) {},
		Transport: base(func(*http.Request) (*http.Response, error) { return resp() }),
	})
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
		var raw json.RawMessage
		var updates []update.Update
		err := b.client.Call(telegram.WithLease(t.Context(), func() bool { return true }), "getUpdates", nil, &raw)
		if err == nil {
			updates, err = update.Split(raw)
		}
		expectJudged(t, err, broken || status >= 500)
		if readable := idsIn(status, body); !broken && readable != nil {
			var got []int64
			for _, u := range updates {
				got = append(got, u.ID)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(readable) {
				t.Errorf("of the updates %v in %q were read %v, %v", readable, body, got, err)
			}
		}
		expectJudged(t, b.reach.GetMe(t.Context(), time.Minute), broken || status >= 500)
		v, err := b.sender.Send(telegram.WithLease(t.Context(), func() bool { return false }), message.Message{To: message.Place{Chat: 1}, Text: "x"}, message.Pace{Begin: func(time.Duration) {}, Pause: func(context.Context, time.Duration, bool) bool { return false }})
		if v != telegram.Over || !errors.Is(err, telegram.ErrLeaseLost) {
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
	v := telegram.Judge(t.Context(), err)
	switch {
	case (v == telegram.Fine) != (err == nil), v == telegram.Over, v < telegram.Fine, v > telegram.Over:
		t.Errorf("%v is judged %d", err, v)
	case mustFail && v != telegram.Transient:
		t.Errorf("%v is judged %d, but may pass", err, v)
	}
	if d := telegram.RetryAfter(err); d < time.Second || d > 5*time.Minute {
		t.Errorf("%v makes us wait %v", err, d)
	}
	if strings.Contains(fmt.Sprint(err), testSecret) {
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
