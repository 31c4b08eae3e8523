package config

import (
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

const acceptedProxy = "[http|https|socks5|socks5h://][user:password@]host[:port], no path, query or fragment"

// lowerCase maps the lower-case names of the proxy variables, which win where both are set, to ours. That is the
// convention of curl and of Go.
func lowerCase(set map[string]string) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		lower := strings.ToLower(name)
		if value, ok := set[lower]; ok {
			set[name] = value
			delete(set, lower)
		}
	}
}

// proxy is the proxy on the way to the Bot API server; nil for none. A demo that has no server of its own set talks to
// the simulator beside it, which no proxy could reach.
func (c *checker) proxy(raw environment, apiURL string, demo bool) *url.URL {
	https, http := c.proxyURL("HTTPS_PROXY", raw.HTTPSProxy), c.proxyURL("HTTP_PROXY", raw.HTTPProxy)
	target, err := url.Parse(apiURL)
	if err != nil || https == "" && http == "" || demo && raw.TelegramAPIURL == "" {
		return nil // a URL that is none was reported already
	}
	rules := httpproxy.Config{HTTPSProxy: https, HTTPProxy: http, NoProxy: raw.NoProxy}
	proxy, err := rules.ProxyFunc()(target)
	if err != nil {
		return nil // only of programs that run as CGI
	}
	return proxy
}

// proxyURL returns the URL of a proxy with its scheme, or reports what is wrong. It shows nothing of it: a user and a
// password may be in it, where they belong or not.
func (c *checker) proxyURL(name, value string) string {
	if value == "" {
		return ""
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) ||
		!isHost(u.Hostname()) || (u.Port() != "" && !isPort(u.Port())) || strings.HasSuffix(u.Host, ":") ||
		strings.Trim(u.Path, "/") != "" || strings.ContainsAny(value, "?#") {
		c.secretProblem(name, acceptedProxy)
		return ""
	}
	return value
}

// allProxy warns of a variable that other programs know. Without the warning it would look as if it were used.
func (c *checker) allProxy(set map[string]string) {
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		if set[name] != "" && set["HTTPS_PROXY"] == "" {
			c.warn("%s has no effect: set HTTPS_PROXY for the way to Telegram", name)
		}
	}
}
