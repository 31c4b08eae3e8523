package botapi

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// decoded is what the HTTP server makes of a path in a request line.
func decoded(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.ParseRequestURI(raw)
	if err != nil {
		t.Fatalf("%s is no path: %v", raw, err)
	}
	return u.Path
}

func TestPathsAsFrameworksBuildThem(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Path{
		"/bot1:a/getMe":            {Token: "1:a", Method: "getme"},
		"/bot1%3Aa/getMe":          {Token: "1:a", Method: "getme"}, // escaped by the client
		"/bot1:a/GETUPDATES":       {Token: "1:a", Method: "getupdates"},
		"/bot1:a/%6CogOut":         {Token: "1:a", Method: "logout"},
		"/bot1:a/test/getMe":       {Token: "1:a", Test: true, Method: "getme"},
		"/bot1:a/?method=logOut":   {Token: "1:a"}, // the parameter says which
		"/bot1:a/test/?method=x":   {Token: "1:a", Test: true},
		"//bot1:a/getMe":           {Token: "1:a", Method: "getme"}, // an API root that ends with a slash
		"/file/bot1:a/photos/a.jp": {Token: "1:a", File: "photos/a.jp"},
		"//file/bot1:a/a%20b.jpg":  {Token: "1:a", File: "a b.jpg"},
		"/file/bot1:a/test/a/b":    {Token: "1:a", Test: true, File: "a/b"},
		"/botNone/getMe":           {Token: "None", Method: "getme"}, // of a variable that is not set
		"/bot/getMe":               {Method: "getme"},
		"/file/bot/a":              {File: "a"},

		"/copy/a/bot1:a/getMe":          {Copy: "a", Token: "1:a", Method: "getme"},
		"/copy/web-1.b_2//bot1:a/getMe": {Copy: "web-1.b_2", Token: "1:a", Method: "getme"},
		"/copy/a/file/bot1:a/x":         {Copy: "a", Token: "1:a", File: "x"},
		"/copy/a/file//bot1:a/x":        {Copy: "a", Token: "1:a", File: "x"},
		"/copy/1.2.3/bot1:a/getMe":      {Copy: "1.2.3", Token: "1:a", Method: "getme"},
		"/copy/10.0.0.256/bot1:a/getMe": {Copy: "10.0.0.256", Token: "1:a", Method: "getme"},
	} {
		if got, err := ParsePath(decoded(t, raw)); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", raw, got, err, want)
		}
	}
}

// telegraf resolves its paths against the API root, as RFC 3986 (section 5.2) has it: without a slash at its end the name is dropped.
func TestTelegrafNeedsASlashAfterTheName(t *testing.T) {
	t.Parallel()
	ask := func(root, below string) (Path, error) {
		base, err := url.Parse(root)
		if err != nil {
			t.Fatal(err)
		}
		to, err := base.Parse(below)
		if err != nil {
			t.Fatal(err)
		}
		return ParsePath(to.Path)
	}
	for below, want := range map[string]Path{
		"./bot1:a/getMe":  {Copy: "a", Token: "1:a", Method: "getme"},
		"./file/bot1:a/x": {Copy: "a", Token: "1:a", File: "x"},
	} {
		if got, err := ask("http://bot:8082/copy/a/", below); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", below, got, err, want)
		}
	}
	if got, err := ask("http://bot:8082/copy/a", "./bot1:a/getMe"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a slash: %+v, %v", got, err)
	}
}

func TestPathsThatLeadNowhere(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"/", "//", "/bot", "/bot1:a", "/1:a/getMe", "/getMe", "/Bot1:a/getMe",
		"/bot1:a/get/Me", "/bot1:a/getMe/", "/bot1:a/../bot2:b/getMe", "/bot1:a/..", "/bot1:a/get%00Me",
		"/bot1:a/%2e%2e%2fbot2:b%2fgetMe", "/bot1:a/%256CogOut", "/bot1:a/getMe%3Fx", "/bot1:a/get-me",
		"/bot1:a/test", "/bot1:a/test?method=logOut", "/bot1:a/" + strings.Repeat("a", 65),
		"/file/bot1:a/", "/file/bot1:a/../x", "/file/bot1:a/a/../../x", "/file/bot1:a/%2e%2e/x", "/file/bot1:a//etc/passwd", "/file/bot1:a/a//b",
		"/file/bot1:a/a%5C..%5Cb", "/file/bot1:a/.", "/file/bot1:a/a%0Ab", "/file/1:a/x",
		"/copy/bot1:a/getMe", "/copy//bot1:a/getMe", "/copy/a", "/copy/a/", "/copy/a%20b/bot1:a/getMe", "/copy/a/copy/b/bot1:a/getMe",
		"/copy/" + strings.Repeat("a", 65) + "/bot1:a/getMe", "/copy/10.0.0.1/bot1:a/getMe", "/copy/10.0.0.1/file/bot1:a/x",
	} {
		if got, err := ParsePath(decoded(t, raw)); !errors.Is(err, ErrNotFound) || got != (Path{}) {
			t.Errorf("%s is %+v, %v", raw, got, err)
		}
	}
	if _, err := ParsePath("bot1:a/getMe"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a path without a slash: %v", err)
	}
}

func TestNoPathStandsInAnError(t *testing.T) {
	t.Parallel()
	_, err := ParsePath("/bot1:secret/no/method")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}

// What is let through is safe to put into another path.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/bot1:a/getMe", "//bot1:a/test/x", "/file/bot1:a/a/b", "/copy/a/bot1:a/", "/copy/10.0.0.1/bot1:a/getMe", "/copy/a/file/bot1:a/../b", "/bot1:a/log\x00out", "/file/bot1:a/ä/%2e",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p, err := ParsePath(path)
		if err != nil {
			if !errors.Is(err, ErrNotFound) || p != (Path{}) {
				t.Errorf("%q: %+v, %v", path, p, err)
			}
			return
		}
		if strings.Contains(p.Token, "/") {
			t.Errorf("%q has the token %q", path, p.Token)
		}
		if strings.Trim(p.Method, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%q has the method %q", path, p.Method)
		}
		if p.File != "" && (p.Method != "" || strings.HasPrefix(p.File, "/") || strings.Contains("/"+p.File+"/", "/../")) {
			t.Errorf("%q has the file %q", path, p.File)
		}
		if _, err := netip.ParseAddr(p.Copy); err == nil || strings.ContainsAny(p.Copy, "/%: ") {
			t.Errorf("%q has the name %q", path, p.Copy)
		}
	})
}
