package config_test

import (
	"strings"
	"testing"
)

func TestTheProxyIsTheOneForTheBotAPIServer(t *testing.T) {
	t.Parallel()
	const withToken = "BOT_TOKEN=" + token
	for _, c := range []struct {
		set  []string
		want string
	}{
		{[]string{withToken}, ""},
		{[]string{withToken, "HTTPS_PROXY="}, ""},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:3128"}, "http://proxy:3128"},
		{[]string{withToken, "HTTPS_PROXY=proxy:3128"}, "http://proxy:3128"},
		{[]string{withToken, "HTTPS_PROXY=proxy"}, "http://proxy"},
		{[]string{withToken, "HTTPS_PROXY=https://u:p%40ss@proxy:3128/"}, "https://u:p%40ss@proxy:3128/"},
		{[]string{withToken, "HTTPS_PROXY=socks5://[2001:db8::1]:1080"}, "socks5://[2001:db8::1]:1080"},
		{[]string{withToken, "HTTPS_PROXY=socks5h://10.0.0.1:1080"}, "socks5h://10.0.0.1:1080"},
		{[]string{withToken, "https_proxy=http://lower:1"}, "http://lower:1"},
		{[]string{withToken, "https_proxy=http://lower:1", "HTTPS_PROXY=http://upper:1"}, "http://lower:1"},
		{[]string{withToken, "HTTP_PROXY=http://proxy:1"}, ""}, // Telegram is reached by https
		{[]string{withToken, "HTTP_PROXY=http://proxy:1", "TELEGRAM_API_URL=http://server:8081"}, "http://proxy:1"},
		{[]string{withToken, "http_proxy=http://proxy:1", "TELEGRAM_API_URL=http://server:8081"}, "http://proxy:1"},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:1", "TELEGRAM_API_URL=http://server:8081"}, ""},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:1", "NO_PROXY=10.0.0.0/8, .telegram.org"}, ""},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:1", "no_proxy=api.telegram.org"}, ""},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:1", "NO_PROXY=*"}, ""},
		{[]string{withToken, "HTTPS_PROXY=http://proxy:1", "NO_PROXY=example.org"}, "http://proxy:1"},
		{[]string{withToken, "HTTP_PROXY=http://proxy:1", "TELEGRAM_API_URL=http://10.1.2.3:8081", "NO_PROXY=10.0.0.0/8"}, ""},
		{[]string{withToken, "HTTP_PROXY=http://proxy:1", "TELEGRAM_API_URL=http://127.0.0.1:8081"}, ""},
		// The demo's simulator is beside the replicas: a proxy that the operator's shell has set does not reach it.
		{[]string{"HTTP_PROXY=http://proxy:1"}, ""},
		{[]string{"HTTP_PROXY=http://proxy:1", "TELEGRAM_API_URL=http://telegram:8081"}, "http://proxy:1"},
	} {
		got := ""
		if p := mustLoad(t, nil, c.set...).Proxy; p != nil {
			got = p.String()
		}
		if got != c.want {
			t.Errorf("%q: the proxy is %q, want %q", c.set[1:], got, c.want)
		}
	}
}

func TestAProxyThatIsNoneIsOneLineThatShowsNothingOfIt(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"://hunter2", "ftp://u:hunter2@proxy:21", "socks4://u:hunter2@proxy:1080", "http://u:hunter2@", "http://u:hunter2@proxy:0",
		"http://u:hunter2@proxy:99999", "http://u:hunter2@proxy:", "http://u:hunter2@proxy:1/path", "http://u:hunter2@proxy?a", "u:hunter2@proxy#x",
		"http://u:hunter2@pro xy:1", "http://u:hunter2%zz@proxy", "hunter2:hunter2:hunter2",
	} {
		for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
			for _, set := range []string{name, strings.ToLower(name)} {
				p := problems(t, nil, "BOT_TOKEN="+token, set+"="+value)
				if len(p) != 1 || !isAbout(p[0], name) || !strings.Contains(p[0], "socks5") || strings.Contains(p[0], "hunter2") {
					t.Errorf("%s=%s: got %q, want one line about %s that says what is accepted and shows nothing", set, value, p, name)
				}
			}
		}
	}
}

func TestAllProxyHasNoEffectAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		cfg := mustLoad(t, nil, "BOT_TOKEN="+token, name+"=socks5://u:hunter2@proxy:1080")
		if cfg.Proxy != nil || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], name+" has no effect: set HTTPS_PROXY") ||
			strings.Contains(cfg.Warnings[0], "hunter2") {
			t.Errorf("%s: proxy %v, warnings %q", name, cfg.Proxy, cfg.Warnings)
		}
		if cfg = mustLoad(t, nil, "BOT_TOKEN="+token, name+"=socks5://x:1", "HTTPS_PROXY=socks5://x:1"); len(cfg.Warnings) != 0 {
			t.Errorf("%s beside HTTPS_PROXY: warnings %q", name, cfg.Warnings)
		}
	}
}
