package simulator

import (
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"habot/app/page/live"
)

// fromOurselves returns what speaks against a request being made by a program or by the simulator's own page, and not
// by another page in the browser of a user who runs the demo: such a page may post to localhost, too.
func fromOurselves(req *http.Request) error {
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errors.New("the Content-Type must be application/json") // a page would have to ask first, in vain
	}
	if !isPlain(req.Host) {
		return errors.New("the Host must be an address, localhost or a name without a dot") // DNS rebinding
	}
	if !live.SameSite(req) {
		return errors.New("the Origin is another page")
	}
	return nil
}

// isPlain tells whether a host is one that no stranger can have made lead here.
func isPlain(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host != "" && !strings.Contains(host, ".")
}
