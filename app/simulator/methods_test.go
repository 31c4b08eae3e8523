package simulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMethodNamesCountInAnyCase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for _, name := range []string{"getMe", "getme", "GETME", "GetUpdates", "GETUPDATES", "getupdates"} {
			r.call(alice, name).expect(t, http.StatusOK, "")
		}
	})
}

func TestARehearsalTakesEveryToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.AnyToken = true
	for path, want := range map[string]int{
		"/bot123456:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB/getMe": 200, "/bot" + testToken + "/getMe": 200, "/bot123456/getMe": 401, "/bot0123:abc/getMe": 401,
	} {
		if code, body := r.get(path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func TestRequestsNotForThisBotAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct {
		path        string
		code        int
		description string
	}{
		"another token":        {"/bot123456:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB/getMe", 401, "Unauthorized"},
		"no colon":             {"/bot123456/getMe", 401, "Unauthorized: invalid token specified"},
		"leading zero":         {"/bot0123:abc/getMe", 401, "Unauthorized: invalid token specified"},
		"too long":             {"/bot1:" + strings.Repeat("A", 80) + "/getMe", 401, "Unauthorized: invalid token specified"},
		"unknown method":       {"/bot" + testToken + "/getEverything", 404, "Not Found: method not found"},
		"no bot at all":        {"/getMe", 404, "Not Found"},
		"a file":               {"/file/bot" + testToken + "/photos/1.jpg", 404, "Not Found"},
		"unknown, wrong token": {"/bot9:x/getEverything", 401, "Unauthorized"},
	} {
		code, body := r.get(c.path)
		var a reply
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Errorf("%s: %q: %v", name, body, err)
			continue
		}
		if code != c.code || a.ErrorCode != c.code || a.OK || a.Description != c.description {
			t.Errorf("%s: %d %s, want %d %q", name, code, body, c.code, c.description)
		}
	}
}

func TestParametersComeInEveryEncoding(t *testing.T) {
	t.Parallel()
	const boundary = "b0undary"
	multipart := func(fields ...string) string {
		var b strings.Builder
		for i := 0; i < len(fields); i += 2 {
			fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary, fields[i], fields[i+1])
		}
		return b.String() + "--" + boundary + "--\r\n"
	}
	for name, c := range map[string]struct{ query, kind, body string }{
		"query":           {query: "?chat_id=1001&text=hi+there"},
		"form":            {kind: "application/x-www-form-urlencoded", body: "chat_id=1001&text=hi%20there"},
		"form, charset":   {kind: "Application/X-WWW-Form-Urlencoded; charset=UTF-8", body: "chat_id=1001&text=hi%20there"},
		"multipart":       {kind: "multipart/form-data; boundary=" + boundary, body: multipart("chat_id", "1001", "text", "hi there")},
		"JSON":            {kind: "application/json", body: `{"chat_id":1001,"text":"hi there"}`},
		"JSON, strings":   {kind: "application/json; charset=utf-8", body: `{"chat_id":"1001","text":"hi there"}`},
		"query and JSON":  {query: "?chat_id=1001", kind: "application/json", body: `{"text":"hi there"}`},
		"the query wins":  {query: "?text=hi+there", kind: "application/json", body: `{"chat_id":1001,"text":"no"}`},
		"the first wins":  {kind: "application/x-www-form-urlencoded", body: "chat_id=1001&text=hi+there&text=no"},
		"the first part":  {kind: "multipart/form-data; boundary=" + boundary, body: multipart("chat_id", "1001", "text", "hi there", "text", "no")},
		"a body unread":   {query: "?chat_id=1001&text=hi+there", kind: "text/plain", body: "text=no"},
		"kind not parsed": {query: "?chat_id=1001&text=hi+there", kind: ";;", body: "text=no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/bot"+testToken+"/sendMessage"+c.query, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.kind != "" {
				req.Header.Set("Content-Type", c.kind)
			}
			a, err := r.do(req)
			if err != nil {
				t.Fatal(err)
			}
			a.expect(t, http.StatusOK, "")
			if !strings.Contains(string(a.Result), `"text":"hi there"`) {
				t.Errorf("%s", a.Result)
			}
		})
	}
}

func TestBodyThatCannotBeReadIsABadRequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ kind, body string }{
		"JSON cut off":       {"application/json", `{"chat_id":1001`},
		"JSON list":          {"application/json", `[1]`},
		"multipart cut off":  {"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhal"},
		"form with % at end": {"application/x-www-form-urlencoded", "text=%"},
		"too big":            {"application/x-www-form-urlencoded", "text=" + strings.Repeat("a", maxBody)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/bot"+testToken+"/sendMessage", io.NopCloser(strings.NewReader(c.body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", c.kind)
			a, err := r.do(req)
			if err != nil {
				t.Fatal(err)
			}
			a.expect(t, http.StatusBadRequest, "Bad Request: can't parse the request's body")
		})
	}
}

func TestSendMessageSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct{ chat, text, mode, markup, want string }{
		{"1001", "", "", "", "message text is empty"},
		{"1001", " \n", "", "", "message text is empty"},
		{"1001", "<b></b>", "HTML", "", "message text is empty"},
		{"", "x", "", "", "chat_id is empty"},
		{"999", "x", "", "", "chat not found"},
		{"@nobody", "x", "", "", "chat not found"},
		{"1001", strings.Repeat("x", 4097), "", "", "message is too long"},
		{"1001", strings.Repeat("\U0001F600", 2049), "", "", "message is too long"},
		{"1001", "<blink>x</blink>", "html", "", `can't parse entities: Unsupported start tag "blink" at byte offset 0`},
		{"1001", "x", "", `{"inline_keyboard":[[{"text":"a","callback_data":""}]]}`, "BUTTON_DATA_INVALID"},
		{"1001", "x", "", `{"inline_keyboard":[[{"text":"a","callback_data":"` + strings.Repeat("ä", 33) + `"}]]}`, "BUTTON_DATA_INVALID"},
		{"1001", "x", "", `{"inline_keyboard":`, "can't parse reply keyboard markup JSON object"},
	} {
		r.call(alice, "sendMessage", "chat_id", c.chat, "text", c.text, "parse_mode", c.mode, "reply_markup", c.markup).
			expect(t, http.StatusBadRequest, "Bad Request: "+c.want)
	}
	for _, c := range []struct{ text, mode, markup string }{
		{strings.Repeat("\U0001F600", 2048), "", ""},
		{"<b>" + strings.Repeat("x", 4096) + "</b>", "HTML", ""}, // counted once the markup is gone
		{"x", "", `{"inline_keyboard":[[{"text":"a","callback_data":"` + strings.Repeat("x", 64) + `"},{"text":"b","url":"https://example.org"}]]}`},
		{"x", "", `{"remove_keyboard":true}`},
	} {
		r.call(alice, "sendMessage", "chat_id", "1001", "text", c.text, "parse_mode", c.mode, "reply_markup", c.markup).expect(t, http.StatusOK, "")
	}
}

func TestMessageAnswersTheUpdateWithItsText(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Write(FirstChat, "a < b")
	r.call(alice, "sendMessage", "chat_id", "1001", "parse_mode", "HTML", "text", "<b>bot</b>: a &lt; b").expect(t, http.StatusOK, "")
	r.call(alice, "sendMessage", "chat_id", "1002", "text", "a < b").expect(t, http.StatusOK, "")
	if rep := r.Report(); rep.Answered != 1 || rep.StrayMessages != 1 || rep.Unanswered != 0 {
		t.Errorf("answered %d, stray %d, unanswered %d; want 1, 1, 0", rep.Answered, rep.StrayMessages, rep.Unanswered)
	}
}

func TestCommandsAreCheckedKeptByScopeAndDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	list := `[{"command":"start","description":"Begin"}]`
	for _, c := range []struct{ commands, scope, want string }{
		{`[{"command":"Start","description":"x"}]`, "", "BOT_COMMAND_INVALID"},
		{`[{"command":"","description":"x"}]`, "", "BOT_COMMAND_INVALID"},
		{`[{"command":"` + strings.Repeat("a", 33) + `","description":"x"}]`, "", "BOT_COMMAND_INVALID"},
		{`[{"command":"a","description":""}]`, "", "BOT_COMMAND_INVALID"},
		{`[{"command":"a","description":"` + strings.Repeat("d", 257) + `"}]`, "", "BOT_COMMAND_INVALID"},
		{`{}`, "", "can't parse commands JSON object"},
		{list, `{"type":"planet"}`, "can't parse BotCommandScope: unsupported type specified"},
		{list, `{"type":"chat","chat_id":999}`, "chat not found"},
	} {
		r.call(alice, "setMyCommands", "commands", c.commands, "scope", c.scope).expect(t, http.StatusBadRequest, "Bad Request: "+c.want)
	}
	chat := `{"type":"chat","chat_id":1001}`
	r.call(alice, "setMyCommands", "commands", list, "scope", chat).expect(t, http.StatusOK, "")
	if got := r.call(alice, "getMyCommands", "scope", chat); string(got.Result) != list {
		t.Errorf("%s", got.Result)
	}
	if got := r.call(alice, "getMyCommands"); string(got.Result) != "[]" {
		t.Errorf("the default scope has %s", got.Result)
	}
	r.call(alice, "deleteMyCommands", "scope", chat).expect(t, http.StatusOK, "")
	if got := r.call(alice, "getMyCommands", "scope", chat); string(got.Result) != "[]" {
		t.Errorf("%s after deleting", got.Result)
	}
}

func TestOtherMethodsAnswerAsTheRealServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if me := r.call(alice, "getMe"); !strings.Contains(string(me.Result), `"id":123456`) || !strings.Contains(string(me.Result), `"is_bot":true`) {
		t.Errorf("%s", me.Result)
	}
	r.call(alice, "sendChatAction", "chat_id", "1001", "action", "typing").expect(t, http.StatusOK, "")
	r.call(alice, "sendChatAction", "chat_id", "1001").expect(t, http.StatusBadRequest, "Bad Request: wrong parameter action in request")
	r.call(alice, "sendChatAction", "action", "typing").expect(t, http.StatusBadRequest, "Bad Request: chat_id is empty")
	r.call(alice, "answerCallbackQuery", "callback_query_id", "1").expect(t, http.StatusOK, "")
	r.call(alice, "answerCallbackQuery").expect(t, http.StatusBadRequest, "Bad Request: query is too old and response timeout expired or query ID is invalid")
}

// setWebhook waits for as long as the server wants between two of them.
func (r *rig) setWebhook(pairs ...string) reply {
	r.t.Helper()
	time.Sleep(webhookEvery)
	return r.call(alice, "setWebhook", pairs...)
}

func TestWebhooksAreNotSetTwiceWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.setWebhook("url", "nonsense").expect(t, http.StatusBadRequest, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
		a := r.call(alice, "setWebhook", "url", "https://example.org/h")
		a.expect(t, http.StatusTooManyRequests, "Too Many Requests: retry after 1")
		if a.Parameters.RetryAfter != 1 {
			t.Errorf("%+v", a)
		}
		r.call(alice, "setWebhook", "url", "").expect(t, http.StatusOK, "Webhook is already deleted") // is not limited
		time.Sleep(webhookEvery)
		r.call(alice, "setWebhook", "url", "https://example.org/h").expect(t, http.StatusOK, "Webhook was set")
		r.call(alice, "deleteWebhook").expect(t, http.StatusOK, "Webhook was deleted")
	})
}

func TestDeletingNoWebhookSetsAllowedUpdates(t *testing.T) {
	t.Parallel()
	for method, pairs := range map[string][]string{"setWebhook": {"url", ""}, "deleteWebhook": nil} {
		r := newRig(t)
		r.call(alice, method, append(pairs, "allowed_updates", `["callback_query"]`, "drop_pending_updates", "true")...)
		if info := r.call(alice, "getWebhookInfo"); strings.Contains(string(info.Result), "allowed_updates") {
			t.Errorf("%s that drops what waits: %s", method, info.Result)
		}
		r.call(alice, method, append(pairs, "allowed_updates", `["callback_query"]`)...)
		if info := r.call(alice, "getWebhookInfo"); !strings.Contains(string(info.Result), `"allowed_updates":["callback_query"]`) {
			t.Errorf("%s: %s", method, info.Result)
		}
	}
}

func TestWebhookIsCheckedAndShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for _, c := range []struct{ url, secret, want string }{
			{"http://example.org", "", "bad webhook: An HTTPS URL must be provided for webhook"},
			{"nonsense", "", "bad webhook: An HTTPS URL must be provided for webhook"},
			{"https://example.org", "not this!", "secret token contains unallowed characters"},
			{"https://example.org", strings.Repeat("s", 257), "secret token is too long"},
		} {
			r.setWebhook("url", c.url, "secret_token", c.secret).expect(t, http.StatusBadRequest, "Bad Request: "+c.want)
		}
		r.Write(FirstChat, "hello")
		r.setWebhook("url", "https://example.org/h", "max_connections", "500", "ip_address", "192.0.2.7",
			"secret_token", strings.Repeat("s", 256), "allowed_updates", `["message","chat_member"]`).expect(t, http.StatusOK, "Webhook was set")
		info := r.call(alice, "getWebhookInfo")
		for _, part := range []string{`"url":"https://example.org/h"`, `"pending_update_count":1`, `"max_connections":100`, `"ip_address":"192.0.2.7"`, `"allowed_updates":["message","chat_member"]`} {
			if !strings.Contains(string(info.Result), part) {
				t.Errorf("%s lacks %s", info.Result, part)
			}
		}
		r.call(alice, "deleteWebhook", "drop_pending_updates", "True").expect(t, http.StatusOK, "Webhook was deleted")
		info = r.call(alice, "getWebhookInfo")
		for _, part := range []string{`"url":""`, `"pending_update_count":0`} {
			if !strings.Contains(string(info.Result), part) {
				t.Errorf("%s lacks %s", info.Result, part)
			}
		}
		if rep := r.Report(); rep.Dropped != 1 {
			t.Errorf("dropped %d, want 1", rep.Dropped)
		}
	})
}

func TestSetWebhookWithDropDropsAlthoughTheWebhookIsTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.setWebhook("url", "https://example.org/h").expect(t, http.StatusOK, "Webhook was set")
		r.Write(FirstChat, "hello")
		r.setWebhook("url", "https://example.org/h", "drop_pending_updates", "1").expect(t, http.StatusOK, "Webhook was set")
		if rep := r.Report(); rep.Dropped != 1 {
			t.Errorf("dropped %d, want 1", rep.Dropped)
		}
	})
}

func TestAllowedUpdatesOverHTTPKeepTheLastValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.call(alice, "getUpdates", "allowed_updates", `["callback_query"]`)
		r.call(bob, "getUpdates", "allowed_updates", `not JSON`)
		r.Write(FirstChat, "not allowed")
		r.control(`{"updates":[{"kind":"callback_query","payload":{}}]}`)
		if n := len(updateIDs(t, r.call(bob, "getUpdates", "offset", "-10"))); n != 1 {
			t.Errorf("%d updates, want the callback query alone", n)
		}
		r.call(bob, "getUpdates", "allowed_updates", `[]`, "offset", "-9")
		r.Write(FirstChat, "allowed")
		if n := len(updateIDs(t, r.call(bob, "getUpdates", "offset", "-8"))); n != 2 {
			t.Errorf("%d updates, want 2", n)
		}
	})
}

func TestPollerIsNamedByItsClientOrItsAddress(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"habot/1.0.0 (habot-bot-2)": "habot-bot-2",
		"habot/1.0.0 ()":            "192.0.2.1",
		"curl/8 (habot-bot-2)":      "192.0.2.1",
		"":                          "192.0.2.1",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://telegram", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.RemoteAddr = "192.0.2.1:999"
		req.Header.Set("User-Agent", agent)
		if got := caller(req).Replica; got != want {
			t.Errorf("agent %q is %q, want %q", agent, got, want)
		}
	}
}
