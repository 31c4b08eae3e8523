//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a container's network. It stays what it is when the container restarts, with another one.
type namespace struct{ *os.File }

func namespaceOf(pid int) (namespace, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	return namespace{f}, err
}

// run runs a command in the network.
func (n namespace) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/proc/self/fd/3"}, args...)...)
	cmd.ExtraFiles = []*os.File{n.File}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// What linux/netfilter/nfnetlink_queue.h says.
const (
	nfqPacket, nfqVerdict, nfqConfig        = unix.NFNL_SUBSYS_QUEUE << 8, unix.NFNL_SUBSYS_QUEUE<<8 | 1, unix.NFNL_SUBSYS_QUEUE<<8 | 2
	nfqaConfigCommand, nfqaConfigParameters = 1, 2
	nfqaPacketHeader, nfqaVerdictHeader     = 1, 2
	nfqBind, nfqCopyMeta, nfAccept          = 1, 1, 1
)

// latencyQueue is the number of the queue; each network has its own.
const latencyQueue = 7

// nfqMessage is a message to the queue, with one attribute.
func nfqMessage(kind netlink.HeaderType, flags netlink.HeaderFlags, attribute uint16, data []byte) (netlink.Message, error) {
	raw, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: attribute, Data: data}})
	if err != nil {
		return netlink.Message{}, err
	}
	family := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, latencyQueue}
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append(family, raw...)}, nil
}

// holdBack delivers every packet of the network's queue after a delay of its own, as netem does in kernels
// that have it (many a cloud's have not). Close ends it; what is held by then is lost.
func holdBack(n namespace, delay func() time.Duration) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(n.Fd())})
	if err != nil {
		return nil, err
	}
	_ = conn.SetOption(netlink.NoENOBUFS, true) // a packet that finds no room is lost, like others
	_ = conn.SetReadBuffer(1 << 20)
	for _, c := range []struct {
		attribute uint16
		data      []byte
	}{
		{nfqaConfigCommand, []byte{nfqBind, 0, 0, 0}},
		{nfqaConfigParameters, []byte{0, 0, 0, 0, nfqCopyMeta}},
	} {
		m, err := nfqMessage(nfqConfig, netlink.Acknowledge, c.attribute, c.data)
		if err == nil {
			_, err = conn.Execute(m)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bind queue %d: %w", latencyQueue, err), conn.Close())
		}
	}
	go func() {
		for {
			messages, err := conn.Receive()
			if err != nil {
				return // closed
			}
			for _, m := range messages {
				if id, ok := packetID(m); ok {
					time.AfterFunc(delay(), func() { deliver(conn, id) })
				}
			}
		}
	}()
	return conn, nil
}

// packetID is the kernel's number of a packet that waits for its verdict.
func packetID(m netlink.Message) ([]byte, bool) {
	const family = 4
	if m.Header.Type != nfqPacket || len(m.Data) < family {
		return nil, false
	}
	attributes, err := netlink.UnmarshalAttributes(m.Data[family:])
	if err != nil {
		return nil, false
	}
	for _, a := range attributes {
		if a.Type == nfqaPacketHeader && len(a.Data) >= 4 {
			return a.Data[:4], true
		}
	}
	return nil, false
}

func deliver(conn *netlink.Conn, id []byte) {
	m, err := nfqMessage(nfqVerdict, 0, nfqaVerdictHeader, append(binary.BigEndian.AppendUint32(nil, nfAccept), id...))
	if err == nil {
		_, _ = conn.Send(m) // after Close no process waits for the packet any more
	}
}

// TestLatency shows that packets are late by what was asked for, and no longer when it is over.
func TestLatency(t *testing.T) {
	s := newStack(t, "habote2e-latency")
	primary, others := s.settled(t, size)
	ns, err := namespaceOf(primary.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	address := docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", others[0].container)
	connecting := func() time.Duration {
		client := inside(primary.pid)
		defer client.CloseIdleConnections()
		start := time.Now()
		resp, err := client.Get("http://" + address + ":8080/livez")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return time.Since(start)
	}
	var once sync.Once
	const late = 150 * time.Millisecond
	conn, err := holdBack(ns, func() time.Duration { return late })
	if err != nil {
		t.Fatal(err)
	}
	closing := func() { once.Do(func() { _ = conn.Close() }) }
	defer closing()
	if err := ns.run(t.Context(), queueRule("-I")...); err != nil {
		t.Fatal(err)
	}
	if took := connecting(); took < 2*late { // a connection is made, and a request goes out
		t.Errorf("a request took %v although each packet is late by %v", took, late)
	}
	if err := ns.run(t.Context(), queueRule("-D")...); err != nil {
		t.Fatal(err)
	}
	closing()
	if took := connecting(); took > late {
		t.Errorf("a request takes %v although nothing is held back any more", took)
	}
}

// queueRule has a network's outgoing packets held back; verb is -I or -D.
func queueRule(verb string) []string {
	return []string{"iptables", "-w", verb, "OUTPUT", "!", "-o", "lo", "-j", "NFQUEUE", "--queue-num", fmt.Sprint(latencyQueue), "--queue-bypass"}
}
