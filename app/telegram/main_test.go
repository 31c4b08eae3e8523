package telegram

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSecret = "AAF-a_secret_that_nobody_may_ever_see"
	testToken  = "123456789:" + testSecret
	operator   = int64(77)
	anybody    = int64(5)
)

const (
	otherPoller = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	webhookSet  = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)

// errDropped is what net/http says of a dropped connection, made worse: with the address in it.
var errDropped = errors.New("Post \"https://api.telegram.org/bot" + testToken + "/getUpdates\": read: connection reset by peer")

func answer(status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

func good(result string) *http.Response {
	return answer(200, "application/json", `{"ok":true,"result":`+result+`}`)
}

func bad(code int, description string) *http.Response {
	return answer(code, "application/json", fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q}`, code, description))
}

func tooMany(seconds int) *http.Response {
	return answer(429, "application/json", fmt.Sprintf(
		`{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":%d}}`, seconds))
}

// fault is one way in which Telegram fails. Each tells the token, as proxies do.
type fault struct {
	name   string
	answer func() (*http.Response, error)
}

func outages() []fault {
	always := func(status int, contentType, body, location string) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			resp := answer(status, contentType, body)
			if location != "" {
				resp.Header.Set("Location", location)
			}
			return resp, nil
		}
	}
	return []fault{
		{"500", always(500, "application/json", `{"ok":false,"error_code":500,"description":"/bot`+testToken+`"}`, "")},
		{"502 page", always(502, "text/html", "<html>no way to /bot"+testToken+"/getUpdates</html>", "")},
		{"200 page", always(200, "text/html", "<html>/bot"+testToken+"</html>", "")},
		{"403", always(403, "application/json", `{"ok":false,"error_code":403,"description":"Forbidden: /bot`+testToken+`/getUpdates"}`, "")},
		{"dropped", func() (*http.Response, error) { return nil, errDropped }},
		{"half a body", always(200, "application/json", `{"ok":true,"result":[{"upd`, "")},
		{"no error", always(200, "application/json", `{"ok":false}`, "")},
		{"redirect", always(307, "text/html", "", "https://elsewhere.example/bot"+testToken+"/getUpdates")},
		{"bad redirect", always(302, "text/html", "", "https://[elsewhere/bot"+strings.Replace(testToken, ":", "%3A", 1)+"/getUpdates")},
	}
}
