package relay

import (
	"strings"
	"testing"
)

func TestParseBackends(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"http://mybot:8000/hook":                   "http://mybot:8000",
		"http://mybot":                             "http://mybot:80",
		" https://a.example/x?y=1 , http://b:1/ ,": "https://a.example:443 http://b:1",
		"http://[::1]:8000/":                       "http://[::1]:8000",
		"http://a:1/x,http://a:1/x,http://a:1/y":   "http://a:1 http://a:1",
		"HTTP://Mybot:8000":                        "http://Mybot:8000",
		"http://10.0.0.1:8000":                     "http://10.0.0.1:8000",
		"http://not-there-yet.invalid:8000":        "http://not-there-yet.invalid:8000",
		"http://mybot:8000/123:AAF-secret_token":   "http://mybot:8000",
	} {
		all, err := ParseBackends(list)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		names := make([]string, 0, len(all))
		for _, b := range all {
			names = append(names, b.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", list, got, want)
		}
	}
}

func TestParseBackendsSaysWhatIsWrongAndNoSecret(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                                      "no URL",
		" , ":                                   "no URL",
		"mybot:8000":                            "entry 1: the URL has to begin with http:// or https://",
		"mybot":                                 "entry 1: the URL has to begin with http://",
		"ftp://mybot/hunter2":                   "entry 1: the URL has to begin with http://",
		"http://user:hunter2@mybot":             "entry 1: a user name or password",
		"http://hunter2@mybot":                  "entry 1: a user name or password",
		"http://a,http://x:hunter2@b":           "entry 2: a user name or password",
		"http://":                               "entry 1: the URL names no host",
		"http://:8000/hunter2":                  "entry 1: the URL names no host",
		"http://mybot:0":                        "entry 1: the port is not within 1..65535",
		"http://mybot:70000/hunter2":            "entry 1: the port is not within 1..65535",
		"http://mybot:hunter2/":                 "entry 1: no URL",
		"http://my bot/hunter2":                 "entry 1: no URL",
		"http://mybot/#hunter2":                 "entry 1: the URL has a fragment",
		"gateway,http://mybot":                  "entry 1: gateway stands alone",
		"http://mybot,gateway":                  "entry 2: gateway stands alone",
		"http://mybot,builtin":                  "entry 2: builtin stands alone",
		"http://%zzhunter2":                     "entry 1: no URL",
		strings.Repeat("http://a:1,", 17) + "x": "entry 18",
	} {
		_, err := ParseBackends(list)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
	var many []string
	for i := range maxBackends + 1 {
		many = append(many, "http://a/"+strings.Repeat("x", i))
	}
	if _, err := ParseBackends(strings.Join(many, ",")); err == nil || !strings.Contains(err.Error(), "17 URLs; at most 16") {
		t.Errorf("17 URLs: %v", err)
	}
}

func TestACertificateIsForTheNameOfTheURL(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{"http://mybot:8000": "", "https://mybot:8000/x": "mybot", "HTTPS://[fd00::1]": "fd00::1"} {
		if all, err := ParseBackends(list); err != nil || all[0].TLSName() != want {
			t.Errorf("%s: %q, %v; want %q", list, all[0].TLSName(), err, want)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]bool{
		"a": true, "AZaz09_-": true, strings.Repeat("x", 256): true,
		"": false, strings.Repeat("x", 257): false, "a b": false, "ä": false, "a\n": false, "a:b": false, "a.b": false,
	} {
		if got := CheckSecret(secret); got != want {
			t.Errorf("CheckSecret(%q) = %v", secret, got)
		}
	}
}

func FuzzParseBackends(f *testing.F) {
	f.Add("http://mybot:8000/hook,https://b")
	f.Add("http://u:p@h")
	f.Add("gateway")
	f.Fuzz(func(t *testing.T, list string) {
		all, err := ParseBackends(list)
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%d backends, %v", len(all), err)
		}
		for _, b := range all {
			if b.host == "" || b.url.User != nil || len(all) > maxBackends {
				t.Fatalf("accepted %q", b.url.String())
			}
		}
	})
}
