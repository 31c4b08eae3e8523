package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"habot/app/config"
	"habot/app/gateway"
	"habot/app/lifeline"
	"habot/app/peer"
	"habot/app/telegram"
)

// Bounds of probes.
const (
	resolveBound = 3 * time.Second
	dialBound    = 3 * time.Second
	replicaBound = 6 * time.Second
	copiesBound  = 4 * time.Second
	// callBound is above the 3 s of a handshake with Telegram.
	callBound = 6 * time.Second
	// reached is how long a connection to a replica may take.
	reached = 2 * time.Second

	// roundTrips are measured after the request that makes the connection.
	roundTrips = 5
	// maxFile is how much of a secret's file is read.
	maxFile = 64 << 10
)

// replicaUser is the user of the image, and its group.
const replicaUser = 65532

// World is what a replica of a configuration would meet. It implements Probes.
type World struct {
	cfg      config.Config
	peers    *peer.Client
	passer   *peer.Passer
	telegram *telegram.Client
	resolver interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	}
	readFile func(string) ([]byte, error)
}

// NewWorld makes the probes of an examination; Close ends their connections. Where there are Problems it asks files and
// limits alone.
func NewWorld(opts Options) (*World, error) {
	cfg := opts.Config
	if len(opts.Problems) > 0 {
		return &World{readFile: os.ReadFile}, nil
	}
	identity, err := peer.NewIdentity(cfg.ClusterSecrets...)
	if err != nil {
		return nil, fmt.Errorf("make the identity for other replicas: %w", err)
	}
	return &World{
		cfg:      cfg,
		peers:    peer.NewClient(peer.ClientConfig{Identity: identity, Timeout: reached, Logger: slog.New(slog.DiscardHandler)}),
		passer:   peer.NewPasser(peer.ClientConfig{Identity: identity, Timeout: reached}),
		telegram: telegram.New(telegram.Config{Token: cfg.Token, APIURL: cfg.APIURL, Proxy: cfg.Proxy, Version: opts.Version, Name: "doctor", Registerer: prometheus.NewRegistry()}),
		resolver: &net.Resolver{PreferGo: true},
		readFile: os.ReadFile,
	}, nil
}

// Close ends idle connections.
func (w *World) Close() {
	if w.peers != nil {
		w.peers.Close()
		w.passer.Close()
		w.telegram.CloseIdle()
	}
}

// Resolve implements Probes.
func (w *World) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveBound)
	defer cancel()
	addrs, err := w.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look %s up: %w", host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// Dial implements Probes.
func (w *World) Dial(ctx context.Context, addr netip.AddrPort, serverName string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, dialBound)
	defer cancel()
	begun := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // nothing is lost
	if serverName != "" {
		if err := tls.Client(conn, &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx); err != nil {
			return 0, fmt.Errorf("TLS: %w", err)
		}
	}
	return time.Since(begun), nil
}

// Replica implements Probes.
func (w *World) Replica(ctx context.Context, addr string) (r Replica, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicaBound)
	defer cancel()
	var took []time.Duration
	for i := range 1 + roundTrips {
		r.Asked = time.Now()
		if r.Status, r.Date, err = w.peers.Examine(ctx, addr); err != nil {
			return r, err //nolint:wrapcheck // the line says of what
		}
		r.Answered = time.Now()
		if i > 0 {
			took = append(took, r.Answered.Sub(r.Asked))
		}
	}
	slices.Sort(took)
	r.RoundTrip = took[len(took)/2]
	return r, nil
}

// Copies implements Probes.
func (w *World) Copies(ctx context.Context, addr string) (s gateway.Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, copiesBound)
	defer cancel()
	raw, err := w.passer.Message(ctx, addr, gateway.MessageCopies, nil)
	if err != nil {
		return s, err //nolint:wrapcheck // it names the act
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("decode what is known of copies: %w", err)
	}
	return s, nil
}

// Me implements Probes.
func (w *World) Me(ctx context.Context) (string, error) {
	var me struct {
		Username string `json:"username"`
	}
	err := w.call(ctx, "getMe", &me)
	return me.Username, err
}

// Webhook implements Probes.
func (w *World) Webhook(ctx context.Context) (Webhook, error) {
	var info struct {
		URL     string `json:"url"`
		Pending int    `json:"pending_update_count"`
	}
	if err := w.call(ctx, "getWebhookInfo", &info); err != nil || info.URL == "" {
		return Webhook{Pending: info.Pending}, err
	}
	hook := Webhook{Host: "a URL that cannot be read", Pending: info.Pending}
	if u, err := url.Parse(info.URL); err == nil {
		hook.Host = cmp.Or(u.Host, hook.Host)
	}
	return hook, nil
}

func (w *World) call(ctx context.Context, method string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	return w.telegram.Call(ctx, method, nil, result) //nolint:wrapcheck // without the token already; the line says of what
}

// Lifelines implements Probes.
func (w *World) Lifelines(ctx context.Context) (int, error) {
	return lifeline.Usable(ctx, w.cfg.LifelineDir) //nolint:wrapcheck // the line says of what
}

// errNoFile is of a path at which there is something else.
var errNoFile = errors.New("it is no file")

// File implements Probes.
func (w *World) File(path string) (File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return File{}, err //nolint:wrapcheck // the line says of what
	}
	if !info.Mode().IsRegular() { // to read it could take forever
		return File{}, errNoFile
	}
	f, err := os.Open(path) //nolint:gosec // the operator has named it
	if err != nil {
		return File{}, err //nolint:wrapcheck // the line says of what
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return File{}, err //nolint:wrapcheck // the line says of what
	}
	file := File{Content: content}
	if user, group, known := owner(info); known {
		file.Judged, file.ByReplicas = true, readableBy(info.Mode(), user, group)
	}
	return file, nil
}

// readableBy tells whether the replicas' user may read a file.
func readableBy(mode fs.FileMode, user, group uint32) bool {
	switch {
	case user == replicaUser:
		return mode&0o400 != 0
	case group == replicaUser:
		return mode&0o040 != 0
	default:
		return mode&0o004 != 0
	}
}

// Limits implements Probes. What cannot be read is not known.
func (w *World) Limits() Limits {
	read := func(name string) string {
		raw, err := w.readFile(name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(raw))
	}
	l := Limits{
		Memory:     cmp.Or(whole(read("/sys/fs/cgroup/memory.max")), whole(read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))),
		Processors: share(strings.Fields(read("/sys/fs/cgroup/cpu.max"))),
	}
	if l.Memory >= 1<<60 { // cgroup v1's way to write none
		l.Memory = 0
	}
	if l.Processors == 0 {
		l.Processors = share([]string{read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")})
	}
	for row := range strings.Lines(read("/proc/self/limits")) {
		if rest, ok := strings.CutPrefix(row, "Max open files"); ok {
			if columns := strings.Fields(rest); len(columns) > 0 {
				l.Descriptors = whole(columns[0])
			}
		}
	}
	return l
}

// whole is a number above 0; 0 for anything else, such as "max".
func whole(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// share is quota by period; 0 if there is no quota.
func share(quotaAndPeriod []string) float64 {
	if len(quotaAndPeriod) != 2 {
		return 0
	}
	quota, period := whole(quotaAndPeriod[0]), whole(quotaAndPeriod[1])
	if period == 0 {
		return 0
	}
	return float64(quota) / float64(period)
}
