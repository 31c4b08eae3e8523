package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// systemResolver looks names up as the system does, but addresses at the name servers alone: a
// container's own hosts file knows it by its id, Docker's name server by the name that people use.
type systemResolver struct {
	net.Resolver
	// resolvConf names the name servers.
	resolvConf string
}

func newSystemResolver() *systemResolver {
	return &systemResolver{Resolver: net.Resolver{PreferGo: true}, resolvConf: "/etc/resolv.conf"}
}

// LookupAddr implements Resolver: a PTR question (RFC 1035, 3.5) to the first name server.
func (r *systemResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	server, err := r.nameServer()
	if err != nil {
		return nil, err
	}
	question, id, err := reverseQuestion(addr)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return nil, fmt.Errorf("reach the name server: %w", err)
	}
	defer func() { _ = conn.Close() }() // a datagram socket: nothing to lose
	const patience = 500 * time.Millisecond
	by := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(by) {
		by = d
	}
	if err := conn.SetDeadline(by); err != nil {
		return nil, fmt.Errorf("bound the wait for the name server: %w", err)
	}
	if _, err := conn.Write(question); err != nil {
		return nil, fmt.Errorf("ask the name server: %w", err)
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return nil, fmt.Errorf("read the name server's answer: %w", err)
	}
	return reverseNames(answer[:n], id)
}

// nameServer is the first in resolv.conf.
func (r *systemResolver) nameServer() (string, error) {
	f, err := os.Open(r.resolvConf)
	if err != nil {
		return "", fmt.Errorf("find a name server: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == "nameserver" {
			return net.JoinHostPort(words[1], "53"), nil
		}
	}
	return "", errors.New("find a name server: resolv.conf names none")
}

// reverseQuestion asks for the names of an address.
func reverseQuestion(addr string) ([]byte, uint16, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, 0, fmt.Errorf("read an address: %w", err)
	}
	name, err := dnsmessage.NewName(arpa(ip.Unmap()))
	if err != nil {
		return nil, 0, fmt.Errorf("name an address: %w", err)
	}
	id := uint16(rand.Uint32()) //nolint:gosec // tells answers apart; the low bits will do
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}},
	}
	raw, err := m.Pack()
	if err != nil {
		return nil, 0, fmt.Errorf("pack a question: %w", err)
	}
	return raw, id, nil
}

// arpa is the domain of an address: 3.0.19.172.in-addr.arpa. or nibbles under ip6.arpa.
func arpa(ip netip.Addr) string {
	var labels []string
	suffix := "in-addr.arpa."
	for _, b := range ip.AsSlice() {
		if ip.Is4() {
			labels = append(labels, fmt.Sprint(b))
		} else {
			labels = append(labels, fmt.Sprintf("%x", b>>4), fmt.Sprintf("%x", b&15))
			suffix = "ip6.arpa."
		}
	}
	slices.Reverse(labels)
	return strings.Join(append(labels, suffix), ".")
}

// reverseNames takes the names out of an answer.
func reverseNames(raw []byte, id uint16) ([]string, error) {
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		return nil, fmt.Errorf("read the name server's answer: %w", err)
	}
	if m.ID != id || !m.Response || m.RCode != dnsmessage.RCodeSuccess {
		return nil, fmt.Errorf("the name server does not know: %v", m.RCode)
	}
	var names []string
	for _, a := range m.Answers {
		if ptr, ok := a.Body.(*dnsmessage.PTRResource); ok {
			names = append(names, ptr.PTR.String())
		}
	}
	return names, nil
}
