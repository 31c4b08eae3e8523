package relay

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxBackends is how many URLs are accepted. Each may resolve to many addresses.
const maxBackends = 16

// Accepted says in words what ParseBackends accepts.
const Accepted = "http://host[:port][/path] or https://..., or a comma-separated list of at most 16 of them"

// Backend is where updates are sent: one URL, whose host may have many addresses.
type Backend struct {
	url  url.URL
	host string // name or IP address
	port string
}

// Name is the backend for logs, metrics and people: scheme, host and port. A path or query may hold a secret, such as
// the bot's token, and is never part of it.
func (b Backend) Name() string { return b.url.Scheme + "://" + net.JoinHostPort(b.host, b.port) }

// Addr is where it listens: a name or IP address, and a port.
func (b Backend) Addr() (host, port string) { return b.host, b.port }

// TLSName is what its certificate has to be for; empty for one without TLS.
func (b Backend) TLSName() string {
	if b.url.Scheme == "https" {
		return b.host
	}
	return ""
}

// ParseBackends reads a comma-separated list of URLs; a URL that is listed twice counts once. A host need not exist
// yet. Errors name the entry that is wrong, without what may be a secret in it.
func ParseBackends(list string) ([]Backend, error) {
	var all []Backend
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n++
		b, err := parseBackend(part)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", n, err)
		}
		if !slices.ContainsFunc(all, func(known Backend) bool { return known.url.String() == b.url.String() }) {
			all = append(all, b)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("no URL in it")
	case len(all) > maxBackends:
		return nil, fmt.Errorf("%d URLs; at most %d are accepted", len(all), maxBackends)
	}
	return all, nil
}

func parseBackend(s string) (Backend, error) {
	if s == "builtin" || s == "gateway" {
		return Backend{}, fmt.Errorf("%s stands alone: it cannot be combined with URLs", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Backend{}, errors.New("no URL") // the reason would repeat it
	}
	b := Backend{url: *u, host: u.Hostname(), port: u.Port()}
	if b.port == "" {
		b.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	switch {
	case u.User != nil:
		return Backend{}, errors.New("a user name or password in the URL would be logged by many programs: use BACKEND_SECRET")
	case u.Scheme != "http" && u.Scheme != "https":
		return Backend{}, errors.New("the URL has to begin with http:// or https://")
	case b.host == "":
		return Backend{}, errors.New("the URL names no host")
	case u.Fragment != "":
		return Backend{}, errors.New("the URL has a fragment (#), which is never sent")
	}
	if n, err := strconv.ParseUint(b.port, 10, 16); err != nil || n == 0 {
		return Backend{}, errors.New("the port is not within 1..65535")
	}
	return b, nil
}

var secretShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// AcceptedSecret says in words what CheckSecret accepts.
const AcceptedSecret = "1 to 256 of A-Z a-z 0-9 _ - (what Telegram accepts as secret_token)"

// CheckSecret tells whether a secret is one that Telegram would send too.
func CheckSecret(secret string) bool { return secretShape.MatchString(secret) }
