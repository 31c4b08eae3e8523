//go:build e2e

package backends

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// network is a switch with hosts on it: network namespaces, each with a cable that can be pulled. The test itself is the host
// .1. The switch is a namespace of its own, which no firewall of the machine's reaches. It takes root.
type network struct {
	name string // of at most five letters and digits: interfaces' names are short
	net  string // the first three bytes of its addresses
}

// host is a machine of the network.
type host struct {
	network       *network
	name, address string
	port          string // its end of the cable at the switch
}

// ownNumber is one that no other network on this machine has until the test ends, in another run neither: two checkouts may be tested at a
// time. What a run that was killed has left is free.
func ownNumber(t *testing.T) int {
	t.Helper()
	for i := 1; i < 100; i++ {
		lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("habot-network-%d.lock", i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			t.Cleanup(func() { _ = lock.Close() }) // after the network was removed
			return i
		}
		_ = lock.Close()
	}
	t.Fatal("all networks are in use")
	return 0
}

// newNetwork makes a switch, and removes all of it when the test ends.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces take root")
	}
	i := ownNumber(t)
	n := &network{name: fmt.Sprintf("hgw%d", i), net: fmt.Sprintf("10.231.%d", i)}
	n.remove()
	t.Cleanup(n.remove)
	n.do(t, "netns", "add", n.name)
	n.do(t, "-n", n.name, "link", "add", "switch", "type", "bridge")
	n.do(t, "-n", n.name, "link", "set", "switch", "up")
	n.do(t, "link", "add", n.name, "type", "veth", "peer", "name", "test", "netns", n.name)
	n.do(t, "-n", n.name, "link", "set", "test", "master", "switch", "up")
	n.do(t, "addr", "add", n.net+".1/24", "dev", n.name)
	n.do(t, "link", "set", n.name, "up")
	return n
}

func (n *network) do(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// remove removes what there is of the network, also what an earlier run that was killed has left.
func (n *network) remove() {
	_ = exec.Command("ip", "link", "del", n.name).Run()
	left, _ := filepath.Glob("/run/netns/" + n.name + "*")
	for _, file := range left {
		name := filepath.Base(file)
		if rest := strings.TrimPrefix(name, n.name); rest == "" || rest[0] == '-' {
			_ = exec.Command("ip", "netns", "del", name).Run()
			_ = os.RemoveAll("/etc/netns/" + name)
		}
	}
}

// host adds a machine with an address, which knows names: lines of /etc/hosts.
func (n *network) host(t *testing.T, name string, last int, names string) *host {
	t.Helper()
	h := &host{network: n, name: n.name + "-" + name, address: fmt.Sprintf("%s.%d", n.net, last), port: fmt.Sprintf("p%d", last)}
	n.do(t, "netns", "add", h.name)
	n.do(t, "-n", h.name, "link", "add", "eth0", "type", "veth", "peer", "name", h.port, "netns", n.name)
	n.do(t, "-n", h.name, "addr", "add", h.address+"/24", "dev", "eth0")
	n.do(t, "-n", h.name, "link", "set", "eth0", "up")
	n.do(t, "-n", h.name, "link", "set", "lo", "up")
	n.do(t, "-n", n.name, "link", "set", h.port, "master", "switch", "up")
	dir := "/etc/netns/" + h.name // "ip netns exec" mounts what is there over /etc
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/hosts", []byte("127.0.0.1 localhost\n"+names), 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

// cut pulls the machine's cable, mend plugs it in again.
func (h *host) cut(t *testing.T) {
	h.network.do(t, "-n", h.network.name, "link", "set", h.port, "down")
}
func (h *host) mend(t *testing.T) { h.network.do(t, "-n", h.network.name, "link", "set", h.port, "up") }
