package live

import (
	"embed"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"habot/app/page"
)

//go:embed testdata
var testdata embed.FS

func TestFilesAreServedWithAPolicyThatKeepsThePageToItself(t *testing.T) {
	t.Parallel()
	own := page.Folder{Files: testdata, Path: "testdata/own"}
	parts := page.Folder{Files: testdata, Path: "testdata/parts"}
	for name, want := range map[string]struct {
		code       int
		kind, body string
	}{
		"index.html":    {200, "text/html; charset=utf-8", "own\n"},
		"a.js":          {200, "text/javascript; charset=utf-8", "own js\n"},
		"b.css":         {200, "text/css; charset=utf-8", "css\n"},
		"deep/c.js":     {404, "text/plain; charset=utf-8", "no such file\n"},
		"..":            {404, "text/plain; charset=utf-8", "no such file\n"},
		"../index.html": {404, "text/plain; charset=utf-8", "no such file\n"},
		"":              {404, "text/plain; charset=utf-8", "no such file\n"},
	} {
		w := httptest.NewRecorder()
		ServeFile(w, name, own, parts)
		if w.Code != want.code || w.Header().Get("Content-Type") != want.kind || w.Body.String() != want.body {
			t.Errorf("%q: %d %s %q", name, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%q: the policy %q lacks %s", name, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%q: the policy is %q", name, policy)
		}
	}
}

func TestOnlyBrowsersGetThePage(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
		"text/html;q=0.5":                true,
		"*/*":                            false, // curl
		"":                               false,
		"text/plain":                     false,
		"application/json, text/*;q=0.1": false,
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		if got := WantsPage(req); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}

func TestRequestsOfOtherPagesAreToldApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		origin, site string
		same         bool
	}{
		{"", "", true},
		{"http://localhost:8081", "", true},
		{"http://localhost:8081", "same-origin", true},
		{"", "none", true},
		{"", "same-origin", true},
		{"", "cross-site", false},
		{"", "same-site", false}, // another port of this machine
		{"http://localhost:3000", "same-site", false},
		{"http://evil.example", "", false},
		{"null", "", false},
	} {
		req := httptest.NewRequest(http.MethodGet, "http://localhost:8081/events", nil)
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		if got := SameSite(req); got != c.same {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: %t", c.origin, c.site, got)
		}
	}
}
