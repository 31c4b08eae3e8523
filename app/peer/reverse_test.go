package peer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

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

// Whatever a name server answers, only names in an answer to the question asked are taken, and what people
// read of them is a bounded name that the log and HTTP headers can carry.
func FuzzReverseNames(f *testing.F) {
	question := dnsmessage.Question{Name: dnsmessage.MustNewName("3.0.19.172.in-addr.arpa."), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}
	for _, name := range []string{"habot-bot-2.habot_default.", ".", "a\nb.c.", strings.Repeat("n", 63) + ".x."} {
		m := dnsmessage.Message{
			Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{question},
			Answers: []dnsmessage.Resource{
				{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{172, 19, 0, 3}}},
				{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(name)}},
			},
		}
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint16(7))
		f.Add(raw, uint16(8))
		f.Add(raw[:len(raw)-3], uint16(7))
	}
	f.Fuzz(func(t *testing.T, raw []byte, id uint16) {
		names, err := reverseNames(raw, id)
		if err != nil {
			if names != nil {
				t.Errorf("names and an error: %q, %v", names, err)
			}
			return
		}
		const response, rcode = 0x80, 0x0f // RFC 1035, 4.1.1
		if binary.BigEndian.Uint16(raw) != id || raw[2]&response == 0 || raw[3]&rcode != 0 {
			t.Errorf("took %q from what is no good answer to %d: % x", names, id, raw[:12])
		}
		if most := int(binary.BigEndian.Uint16(raw[6:])); len(names) > most {
			t.Errorf("%d names in %d answers", len(names), most)
		}
		for _, n := range names {
			if again, err := dnsmessage.NewName(n); err != nil || again.String() != n {
				t.Errorf("%q is no name: %v", n, err)
			}
			if name := readable(n); len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("people are to read %q of %q", name, n)
			}
		}
	})
}
