package peer

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestArpaNamesTheDomainOfAnAddress(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"172.19.0.3":  "3.0.19.172.in-addr.arpa.",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
	} {
		if got := arpa(netip.MustParseAddr(addr)); got != want {
			t.Errorf("arpa(%s) = %s, want %s", addr, got, want)
		}
	}
}

func TestReverseQuestionAndAnswerFitTogether(t *testing.T) {
	t.Parallel()
	raw, id, err := reverseQuestion("172.19.0.3")
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	if m.ID != id || m.Questions[0].Type != dnsmessage.TypePTR || m.Questions[0].Name.String() != "3.0.19.172.in-addr.arpa." {
		t.Fatalf("asked %v", m)
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("habot-bot-2.habot_default.")},
	}}
	answer, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	names, err := reverseNames(answer, id)
	if err != nil || !slices.Equal(names, []string{"habot-bot-2.habot_default."}) {
		t.Fatalf("read %v, %v", names, err)
	}
	if names, err := reverseNames(answer, id+1); err == nil {
		t.Errorf("took the answer to another question: %v", names)
	}
	if _, err := reverseNames([]byte("junk"), id); err == nil {
		t.Error("took junk")
	}
}

// A container's hosts file has its own address with its id: that MUST NOT win over the name server.
func TestTheHostsFileIsNotAskedForAddresses(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &systemResolver{Resolver: net.Resolver{PreferGo: true}, resolvConf: conf}
	if names, err := r.LookupAddr(t.Context(), "127.0.0.1"); err == nil {
		t.Errorf("found %v without a name server", names)
	}
}
