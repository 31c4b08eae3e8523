package simulator

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
)

// One set of parameters is the same set in every encoding that a client may choose.
func FuzzEncodings(f *testing.F) {
	f.Add("chat_id", "1001", "text", "a & b = ä\n<c>")
	f.Add("offset", "-1", "limit", "")
	f.Add("a", "null", "a", "[\"x\"]")
	f.Add("", "%zz", "+", "\x00")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		for _, s := range []string{name1, value1, name2, value2} {
			if !utf8.ValidString(s) || bytes.ContainsAny([]byte(s), "\"\r\\") {
				return // JSON, or the header of a part, would change it
			}
		}
		if strings.ContainsFunc(name1+name2, unicode.IsControl) {
			return // no header may have it
		}
		want := params{name2: value2, name1: value1}
		form := url.Values{}
		fields := map[string]any{}
		var parts bytes.Buffer
		w := multipart.NewWriter(&parts)
		for name, value := range want {
			form.Set(name, value)
			fields[name] = value
			if err := w.WriteField(name, value); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		object, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ query, kind, body string }{
			{query: form.Encode()},
			{kind: "application/x-www-form-urlencoded", body: form.Encode()},
			{kind: "application/json; charset=utf-8", body: string(object)},
			{kind: w.FormDataContentType(), body: parts.String()},
		} {
			req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte(c.body)))
			req.URL.RawQuery = c.query
			req.Header.Set("Content-Type", c.kind)
			if got, _, err := readParams(req); err != nil || !maps.Equal(got, want) {
				t.Errorf("%s%s gives %q, %v, want %q", c.kind, c.query, got, err, want)
			}
		}
	})
}

// Whatever is asked of whichever method, the answer is the Bot API's, in its form, and the books balance.
func FuzzMethods(f *testing.F) {
	for _, c := range [][2]string{
		{"getMe", ""}, {"getUpdates", "offset=-5&limit=7&timeout=60&allowed_updates=%5B%22poll%22%5D"}, {"getUpdates", "offset=2147483647"},
		{"sendMessage", "chat_id=1001&text=%3Cb%3Ea%3C/b%3E&parse_mode=HTML"}, {"sendMessage", "chat_id=1001&text=a&reply_markup=%7B%22inline_keyboard%22:%5B%5B%7B%22callback_data%22:%22%22%7D%5D%5D%7D"},
		{"setMyCommands", "commands=%5B%7B%22command%22:%22a%22,%22description%22:%22b%22%7D%5D&scope=%7B%22type%22:%22chat%22,%22chat_id%22:1001%7D"},
		{"setWebhook", "url=https://example.org/&max_connections=1000&secret_token=a"}, {"deleteWebhook", "drop_pending_updates=1"}, {"getWebhookInfo", ""},
		{"getMyCommands", "scope=%5B"}, {"deleteMyCommands", ""}, {"sendChatAction", "chat_id=1001&action=typing"}, {"answerCallbackQuery", ""}, {"%2e%2e", ""},
	} {
		f.Add(c[0], c[1], "getUpdates", "timeout=1")
	}
	f.Fuzz(func(t *testing.T, method1, form1, method2, form2 string) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			for i := range int64(3) {
				r.Write(FirstChat+i, "hello")
			}
			for _, c := range [][2]string{{method1, form1}, {method2, form2}, {"getUpdates", "offset=0"}} {
				req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/bot"+testToken+"/"+url.PathEscape(c[0]), bytes.NewReader([]byte(c[1])))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				rec := httptest.NewRecorder()
				start := time.Now()
				r.Handler().ServeHTTP(rec, req)
				var a reply
				if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil && rec.Code/100 != 3 { // gin redirects a path with a slash too many
					t.Fatalf("%q %q: %d %q: %v", c[0], c[1], rec.Code, rec.Body, err)
				}
				switch {
				case rec.Code/100 == 5, rec.Code/100 != 3 && a.OK != (rec.Code == http.StatusOK), rec.Code/100 == 4 && (a.ErrorCode != rec.Code || a.Description == ""):
					t.Errorf("%q %q: %d %q", c[0], c[1], rec.Code, rec.Body)
				case time.Since(start) > maxTimeout*time.Second:
					t.Errorf("%q %q took %v", c[0], c[1], time.Since(start))
				}
			}
			if s := r.Report(); s.Sent != 3 || s.Confirmed+s.Dropped > 3 || s.Answered > 3 || s.Unanswered != s.Sent-s.Answered-s.Dropped || s.Polls < 1 {
				t.Errorf("the books do not balance: %+v", s)
			}
		})
	})
}

// Whatever is posted to control it is refused, or done; then bots can still poll.
func FuzzControl(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", `{"rate":-1}`, `{"rate":1e300}`, `{"clear_faults":true,"faults":[{"kind":"hang","seconds":1}]}`, `{"lower_ids":true}`,
		`{"messages":[{"chat_id":-5,"text":"/a b"}]}`, `{"updates":[{"kind":"message","payload":{"x":1}},{"kind":"poll"}]}`, `{"updates":[{"kind":"nonsense"}]}`,
		`{"faults":[{"kind":"429","seconds":1e-9,"retry_after_seconds":3600,"methods":["getMe"],"replica":"x"}]}`, `{"unknown":1}`, "\xff",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			rec := httptest.NewRecorder()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/control", bytes.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			r.Handler().ServeHTTP(rec, req)
			if rec.Code != http.StatusOK && rec.Code != http.StatusBadRequest || !json.Valid(rec.Body.Bytes()) {
				t.Fatalf("%d %q", rec.Code, rec.Body)
			}
			sent := r.Report().Sent
			if rec.Code == http.StatusBadRequest && (sent != 0 || r.rate != 0 || len(r.faults) != 0 || r.bot.queue.restart != 0) {
				t.Errorf("%q was refused and done all the same", body)
			}
			time.Sleep(maxFaultSeconds * time.Second)
			got := updateIDs(t, r.call(alice, "getUpdates", "limit", "100"))
			if want := min(sent-r.Report().Dropped, maxLimit); int64(len(got)) != want {
				t.Errorf("after %q %d updates can be read, want %d", body, len(got), want)
			}
		})
	})
}
