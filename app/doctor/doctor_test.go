package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/election"
	"habot/app/gateway"
	"habot/app/peer"
	"habot/app/relay"
	"habot/app/telegram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken     = "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghi"
	copiesToken   = "123456:ihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA"
	testVersion   = "1.2.3"
	clusterSecret = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCdE="
)

// What goes wrong below.
var (
	errName    = &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}
	errServers = &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}
	errRefused = fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	errFilter  = fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded})
	errNoIPv6  = fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH})
	errSilent  = fmt.Errorf("ask: %w", context.DeadlineExceeded)
)

// fake is a world in which all is well, unless something is put into it.
type fake struct {
	names     map[string][]string // what resolves to other than names to nothing, addresses to themselves
	nameErr   map[string]error
	dialErr   map[string]error // by address
	tlsErr    map[string]error // by the name that the certificate is for
	replicas  map[string]Replica
	askErr    map[string]error
	copies    *gateway.Snapshot // nil while there is no primary
	me        error
	hook      Webhook
	hookErr   error
	lifelines error
	files     map[string]File
	fileErr   map[string]error
	limits    Limits
	// stuck has each probe take until its context ends.
	stuck bool
}

func (f *fake) wait(ctx context.Context) error {
	if !f.stuck {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	if err := f.nameErr[host]; err != nil {
		return nil, fmt.Errorf("look %s up: %w", host, err)
	}
	var all []netip.Addr
	for _, a := range f.names[host] {
		all = append(all, netip.MustParseAddr(a))
	}
	if all == nil {
		return nil, errName
	}
	return all, nil
}

func (f *fake) Dial(ctx context.Context, addr netip.AddrPort, serverName string) (time.Duration, error) {
	if err := f.wait(ctx); err != nil {
		return 0, err
	}
	if err := f.tlsErr[serverName]; err != nil {
		return 0, err
	}
	return 35 * time.Millisecond, f.dialErr[addr.String()]
}

func (f *fake) Replica(ctx context.Context, addr string) (Replica, error) {
	if err := f.wait(ctx); err != nil {
		return Replica{}, err
	}
	if err := f.askErr[addr]; err != nil {
		return Replica{}, err
	}
	if r, ok := f.replicas[addr]; ok {
		return r, nil
	}
	return Replica{}, errRefused
}

func (f *fake) Copies(ctx context.Context, addr string) (gateway.Snapshot, error) {
	if r, err := f.Replica(ctx, addr); err != nil || r.Status.IsWitness() || f.copies == nil {
		return gateway.Snapshot{}, errRefused
	}
	return *f.copies, nil
}

func (f *fake) Me(context.Context) (string, error)       { return "my_bot", f.me }
func (f *fake) Webhook(context.Context) (Webhook, error) { return f.hook, f.hookErr }
func (f *fake) Lifelines(context.Context) (int, error)   { return 2, f.lifelines }
func (f *fake) File(path string) (File, error)           { return f.files[path], f.fileErr[path] }
func (f *fake) Limits() Limits                           { return f.limits }

// replica is a sound one.
func replica(name string) Replica {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return Replica{
		Status: election.Status{
			Replica: election.ReplicaID(name), Name: name, Version: testVersion, Role: election.Standby, Lease: 550 * time.Millisecond, Replicas: 3, Quorum: 2,
			Health: election.Health{OK: true},
		},
		RoundTrip: 2 * time.Millisecond, Asked: now, Answered: now, Date: now,
	}
}

// witness makes a replica one that votes alone.
func witness(r *Replica) { r.Status.Health = election.WitnessHealth() }

// well is a world in which three replicas run.
func well() *fake {
	return &fake{
		names: map[string][]string{"bot": {"10.0.0.1", "10.0.0.2", "10.0.0.3"}, "api.telegram.org": {"1.1.1.1", "2001:db8::1"}},
		replicas: map[string]Replica{
			"10.0.0.1:7175": replica("a"), "10.0.0.2:7175": replica("b"), "10.0.0.3:7175": replica("c"),
		},
		nameErr: map[string]error{}, dialErr: map[string]error{}, askErr: map[string]error{}, files: map[string]File{}, fileErr: map[string]error{},
		copies: copies("active", "standby", "standby"), limits: Limits{Descriptors: 1 << 20, Memory: 128 << 20, Processors: 0.5},
	}
}

// copies are copies of a polling bot by their roles, called copy-0 and so on.
func copies(roles ...string) *gateway.Snapshot {
	s := &gateway.Snapshot{Primary: "a"}
	for i, role := range roles {
		name := fmt.Sprintf("copy-%d", i)
		if role == "active" {
			s.Active = name
		}
		s.Copies = append(s.Copies, gateway.Copy{Name: name, Role: role})
	}
	return s
}

func options(t *testing.T, environ ...string) Options {
	t.Helper()
	if !slices.Contains(environ, "WITNESS=true") {
		environ = append([]string{"BOT_TOKEN=" + testToken}, environ...)
	}
	cfg, err := config.Load(environ, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Config: cfg, Version: testVersion}
}

func texts(lines []Line) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.String())
	}
	return all
}

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	lines := Examine(t.Context(), options(t), well())
	want := []string{
		"OK    configuration: accepted",
		"OK    instance bot: resolves to 10.0.0.1:7175, 10.0.0.2:7175, 10.0.0.3:7175",
		"OK    replica 10.0.0.1:7175: a, standby, version 1.2.3, round trip 2 ms",
		"OK    replica 10.0.0.2:7175: b, standby, version 1.2.3, round trip 2 ms",
		"OK    replica 10.0.0.3:7175: c, standby, version 1.2.3, round trip 2 ms",
		"OK    quorum: 3 of 3 replicas answer, 2 needed",
		"OK    other pollers: no replica reports one",
		"OK    lifelines: LIFELINE_DIR can be used, 2 sockets in it",
		"OK    Telegram's address api.telegram.org:443: IPv4 connects in 35 ms; IPv6 connects in 35 ms",
		"OK    token: accepted, the bot is @my_bot",
		"OK    webhook: none is set; 0 updates waiting",
		"OK    backends: none configured: the built-in bot handles updates",
		"OK    open files: limit 1048576",
		"OK    memory: limit 128 MiB",
		"OK    processor: limit 0.5 processors",
	}
	if got := texts(lines); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var out strings.Builder
	if code := Write(&out, lines); code != 0 || !strings.HasSuffix(out.String(), "\n\nnothing is wrong\n") {
		t.Errorf("exit code %d\n%s", code, out.String())
	}
}

// Each case breaks one thing and names each line that is then not as it was, besides those that are fine.
func TestEachCheckSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
	edit := func(f *fake, addr string, change func(*Replica)) {
		r := f.replicas[addr]
		change(&r)
		f.replicas[addr] = r
	}
	const first = "10.0.0.1:7175"
	for name, c := range map[string]struct {
		set  []string
		edit func(f *fake)
		want []string // parts of the lines that are not OK, in order
		code int
	}{
		"a warning of the configuration": {
			set: []string{"QUORUM=1", "LOGLEVEL=x"}, edit: func(f *fake) {
				for addr := range f.replicas {
					edit(f, addr, func(r *Replica) { r.Status.Quorum = 1 })
				}
			}, code: 1, want: []string{"WARN  configuration: QUORUM=1 is below a majority", "WARN  configuration: the variable LOGLEVEL is not known"},
		},
		"a witness beside two replicas": {
			edit: func(f *fake) { edit(f, first, witness) },
		},
		"on a witness": {
			set: []string{"WITNESS=true", "CLUSTER_SECRET=" + clusterSecret, "BACKEND=http://gone/hook"}, edit: func(f *fake) {
				edit(f, first, witness)
				f.me = errName
			}, want: []string{"-     Telegram: a witness has no way there"},
		},
		"one replica and two witnesses": {
			edit: func(f *fake) { edit(f, first, witness); edit(f, "10.0.0.2:7175", witness) }, code: 1,
			want: []string{"WARN  quorum: 3 of 3 replicas answer, 2 needed, and all but c are witnesses, which never are primary: its failure stops the bot; start another replica without WITNESS=true"},
		},
		"all witnesses": {
			edit: func(f *fake) {
				for addr := range f.replicas {
					edit(f, addr, witness)
				}
			}, code: 2,
			want: []string{"ERROR quorum: 3 of 3 replicas answer, 2 needed, and all that answer are witnesses: there can be no primary; start replicas without WITNESS=true"},
		},
		"a witness and one of two replicas": {
			edit: func(f *fake) { edit(f, first, witness); delete(f.replicas, "10.0.0.2:7175") }, code: 1,
			want: []string{"WARN  replica 10.0.0.2:7175: no replica listens there", "WARN  quorum: 2 of 3 replicas answer, 2 needed: the next failure stops the bot"},
		},
		"nothing runs": {
			edit: func(f *fake) { delete(f.names, "bot") }, code: 1,
			want: []string{"WARN  instance bot: there is no such name: no replica of it runs yet", "WARN  quorum: no replica answers, so none runs yet", "-     other pollers: only a poll shows them"},
		},
		"nothing runs, and Docker's name server has none to ask": {
			edit: func(f *fake) { f.nameErr["bot"] = &net.DNSError{Err: "server misbehaving", IsTemporary: true} }, code: 1,
			want: []string{"WARN  instance bot: the name server fails (server misbehaving): no replica of it runs yet", "WARN  quorum: no replica answers", "-     other pollers"},
		},
		"a name of another machine is not resolved": {
			set: []string{"INSTANCES=one.example.org,bot"}, edit: func(f *fake) { f.nameErr["one.example.org"] = errServers }, code: 2,
			want: []string{"ERROR instance one.example.org: it is not resolved (no name server has answered): repair the name servers"},
		},
		"a replica is stopped": {
			edit: func(f *fake) { delete(f.replicas, first) }, code: 1,
			want: []string{"WARN  replica 10.0.0.1:7175: no replica listens there (connection refused): start it", "WARN  quorum: 2 of 3 replicas answer, 2 needed: the next failure stops the bot"},
		},
		"one of five is stopped": {
			set: []string{"REPLICAS=5", "INSTANCES=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5"}, code: 1, edit: func(f *fake) {
				f.replicas["10.0.0.4:7175"] = replica("d")
				for addr := range f.replicas {
					edit(f, addr, func(r *Replica) { r.Status.Replicas, r.Status.Quorum = 5, 3 })
				}
			}, want: []string{"WARN  replica 10.0.0.5:7175", "WARN  quorum: 4 of 5 replicas answer, 3 needed: start the others"},
		},
		"a firewall": {
			edit: func(f *fake) { f.askErr[first], f.askErr["10.0.0.2:7175"] = errFilter, errFilter }, code: 2,
			want: []string{"ERROR replica 10.0.0.1:7175: no connection (no answer in time): its machine is down, or a firewall drops TCP port 7175", "ERROR replica 10.0.0.2", "ERROR quorum: 1 of 3 replicas answer, 2 needed: there can be no primary"},
		},
		"a firewall before all": {
			edit: func(f *fake) {
				for addr := range f.replicas {
					f.askErr[addr] = errFilter
				}
			}, code: 2, want: []string{
				"ERROR replica 10.0.0.1", "ERROR replica 10.0.0.2", "ERROR replica 10.0.0.3", "ERROR quorum: 0 of 3 replicas answer, 2 needed", "-     other pollers",
			},
		},
		"no network at all": {
			set: []string{"INSTANCES=10.0.0.1,10.0.0.2,10.0.0.3", "BACKEND=http://10.0.1.9:1/hook"}, edit: func(f *fake) {
				for addr := range f.replicas {
					f.askErr[addr] = errNoIPv6
				}
				f.nameErr["api.telegram.org"] = errServers
				f.dialErr["10.0.1.9:1"] = errNoIPv6
			}, code: 2, want: []string{
				"ERROR replica 10.0.0.1:7175: no connection (network is unreachable): its machine is down, or a firewall drops TCP port 7175", "ERROR replica 10.0.0.2", "ERROR replica 10.0.0.3",
				"ERROR quorum: 0 of 3 replicas answer, 2 needed: there can be no primary", "-     other pollers", "ERROR Telegram's address api.telegram.org:443", "-     token", "-     webhook",
				"ERROR backend http://10.0.1.9:1: no connection to 1 address (network is unreachable)",
			},
		},
		"no name server for any": {
			set: []string{"INSTANCES=one.example.org"}, edit: func(f *fake) { f.nameErr["one.example.org"] = errServers }, code: 2,
			want: []string{"ERROR instance one.example.org", "ERROR quorum: 0 of 3 replicas answer, 2 needed", "-     other pollers"},
		},
		"another bot": {
			edit: func(f *fake) { f.askErr[first] = fmt.Errorf("ask: %w", peer.ErrIdentity) }, code: 2,
			want: []string{"ERROR replica 10.0.0.1:7175: it belongs to another bot: its CLUSTER_SECRET", "WARN  quorum"},
		},
		"another protocol": {
			edit: func(f *fake) { f.askErr[first] = fmt.Errorf("ask: %w", peer.ErrProtocol) }, code: 2,
			want: []string{"ERROR replica 10.0.0.1:7175: it speaks another version of the protocol: upgrade all", "WARN  quorum"},
		},
		"another program": {
			edit: func(f *fake) { f.askErr[first] = fmt.Errorf("ask: %w", tls.RecordHeaderError{Msg: "x"}) }, code: 2,
			want: []string{"ERROR replica 10.0.0.1:7175: what listens there is no replica: correct INSTANCES or PEER_ADDR", "WARN  quorum"},
		},
		"a frozen replica": {
			edit: func(f *fake) { f.askErr[first] = errSilent }, code: 2,
			want: []string{"ERROR replica 10.0.0.1:7175: it accepts the connection and does not answer as a replica (no answer in time): it may be frozen", "WARN  quorum"},
		},
		"another version and configuration": {
			edit: func(f *fake) {
				edit(f, first, func(r *Replica) {
					r.Status.Version, r.Status.Lease, r.Status.Replicas, r.Status.Quorum = "1.0.0", time.Second, 5, 2
				})
			}, code: 2, want: []string{
				"WARN  replica 10.0.0.1:7175: a runs version 1.0.0, this is 1.2.3: upgrade all", "ERROR replica 10.0.0.1:7175: a has LEASE=1s, here it is 550ms",
				"WARN  replica 10.0.0.1:7175: a counts 5 replicas, here REPLICAS=3", "ERROR replica 10.0.0.1:7175: a needs 2 grants, by the configuration here it would be 3",
			},
		},
		"a slow network": {
			edit: func(f *fake) {
				edit(f, first, func(r *Replica) { r.RoundTrip = 61 * time.Millisecond })
				edit(f, "10.0.0.2:7175", func(r *Replica) { r.RoundTrip = 300 * time.Millisecond })
				edit(f, "10.0.0.3:7175", func(r *Replica) { r.RoundTrip = 55 * time.Millisecond })
			}, code: 2, want: []string{
				"WARN  replica 10.0.0.1:7175: a answers after 61 ms, which is more than a tenth of LEASE=550ms, so each renewal is sent twice: set LEASE to at least 650ms",
				"ERROR replica 10.0.0.2:7175: b answers after 0.30 s, which is more than half of LEASE=550ms, so its grants come too late: set LEASE to at least 3s",
			},
		},
		"wall clocks": {
			edit: func(f *fake) {
				edit(f, first, func(r *Replica) { r.Date = r.Date.Add(90 * time.Second) })
				edit(f, "10.0.0.2:7175", func(r *Replica) { r.Date = r.Date.Add(-61 * time.Second) })
				edit(f, "10.0.0.3:7175", func(r *Replica) { r.Date = r.Date.Add(-1900 * time.Millisecond) }) // may be a fraction of a second
			}, code: 1, want: []string{
				"WARN  replica 10.0.0.1:7175: a has a wall clock that is at least 1m30s ahead of the one here", "WARN  replica 10.0.0.2:7175: b has a wall clock that is at least 1m0s behind the one here",
			},
		},
		"no date": {edit: func(f *fake) { edit(f, first, func(r *Replica) { r.Date = time.Time{} }) }},
		"a replica without Telegram": {
			edit: func(f *fake) {
				edit(f, first, func(r *Replica) { r.Status.Health = election.Health{Detail: "connection refused"} })
			}, code: 1, want: []string{"WARN  replica 10.0.0.1:7175: a does not reach Telegram: connection refused"},
		},
		"a replica with an old token": {
			edit: func(f *fake) {
				edit(f, first, func(r *Replica) { r.Status.Health.Detail = diagnosis.TroubleToken.Text() })
			}, code: 2, want: []string{"ERROR replica 10.0.0.1:7175: a reports: Telegram rejects the token (401"},
		},
		"another poller": {
			edit: func(f *fake) {
				edit(f, "10.0.0.2:7175", func(r *Replica) { r.Status.Health.Detail = diagnosis.TroubleConflict.Text() })
			}, code: 2, want: []string{"ERROR other pollers: b reports: another program polls with this token (409); stop that program"},
		},
		"a webhook that ends polls": {
			edit: func(f *fake) {
				edit(f, "10.0.0.2:7175", func(r *Replica) { r.Status.Health.Detail = diagnosis.TroubleWebhook.Text() })
				f.hook = Webhook{Host: "bot.example.org", Pending: 7}
			}, code: 2, want: []string{"ERROR other pollers: b reports: a webhook is set", "WARN  webhook: one is set, to bot.example.org: a replica that becomes primary deletes it once and keeps the 7 updates"},
		},
		"one replica, two addresses": {
			set: []string{"INSTANCES=bot,fd00::1"}, edit: func(f *fake) { f.replicas["[fd00::1]:7175"] = replica("a") },
		},
		"more replicas than configured": {
			set: []string{"INSTANCES=bot,10.0.0.4"}, code: 1, edit: func(f *fake) { f.replicas["10.0.0.4:7175"] = replica("d") },
			want: []string{"WARN  quorum: 4 replicas answer, more than REPLICAS=3"},
		},
		"two of one name": {
			edit: func(f *fake) { edit(f, first, func(r *Replica) { r.Status.Name = "b" }) }, code: 1,
			want: []string{"WARN  names: 2 replicas are called b: leave REPLICA_NAME empty"},
		},
		"no election": {set: []string{"MODE=bot-only", "REPLICAS=1"}, want: []string{"-     replicas: MODE=bot-only has no others"}},
		"no lifelines wanted": {
			set: []string{"LIFELINE_DIR="}, want: []string{"-     lifelines: LIFELINE_DIR is empty: after a crash the lease decides"},
		},
		"no folder for lifelines": {
			edit: func(f *fake) { f.lifelines = fmt.Errorf("make: %w", syscall.ENOENT) }, code: 1, want: []string{"WARN  lifelines: LIFELINE_DIR does not exist here"},
		},
		"a folder of another user": {
			edit: func(f *fake) { f.lifelines = fmt.Errorf("make: %w", syscall.EACCES) }, code: 1, want: []string{"WARN  lifelines: LIFELINE_DIR cannot be used (permission denied)"},
		},
		"lifelines elsewhere": {edit: func(f *fake) { f.lifelines = errors.ErrUnsupported }, want: []string{"-     lifelines: known on Linux alone"}},
		"Telegram is not resolved": {
			edit: func(f *fake) { f.nameErr["api.telegram.org"] = errServers }, code: 2,
			want: []string{"ERROR Telegram's address api.telegram.org:443: its name is not resolved (no name server has answered)", "-     token", "-     webhook"},
		},
		"no way out": {
			edit: func(f *fake) { f.dialErr["1.1.1.1:443"], f.dialErr["[2001:db8::1]:443"] = errFilter, errNoIPv6 }, code: 2,
			want: []string{"ERROR Telegram's address api.telegram.org:443: no connection (IPv4 fails: no answer in time; IPv6 is not available here): let TCP port 443 out of this network, or set HTTPS_PROXY", "-     token", "-     webhook"},
		},
		"no IPv6, as in Docker's default network": {edit: func(f *fake) { f.dialErr["[2001:db8::1]:443"] = errNoIPv6 }},
		"IPv6 that loses packets": {
			edit: func(f *fake) { f.dialErr["[2001:db8::1]:443"] = errFilter }, code: 1,
			want: []string{"WARN  Telegram's address api.telegram.org:443: IPv4 connects in 35 ms; IPv6 fails: no answer in time: requests use the other family"},
		},
		"a certificate that is not trusted": {
			edit: func(f *fake) {
				f.dialErr["1.1.1.1:443"] = fmt.Errorf("TLS: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})
				f.dialErr["[2001:db8::1]:443"] = errNoIPv6
			}, code: 2, want: []string{"ERROR Telegram's address api.telegram.org:443: no connection (IPv4 fails: its certificate is not trusted (x509: certificate signed by unknown authority)", "-     token", "-     webhook"},
		},
		"a proxy that is not there": {
			set: []string{"HTTPS_PROXY=socks5://user:hunter2@10.0.0.9"}, edit: func(f *fake) { f.dialErr["10.0.0.9:1080"] = errRefused }, code: 2,
			want: []string{"ERROR proxy socks5://10.0.0.9:1080: no connection (IPv4 fails: connection refused): correct HTTPS_PROXY, or start the proxy", "-     token", "-     webhook"},
		},
		"the demo before it runs": {
			set: []string{"BOT_TOKEN=" + config.DemoToken}, code: 1, want: []string{"WARN  Telegram's address telegram:8081: there is no such name: start the simulator: docker compose up -d", "-     token", "-     webhook"},
		},
		"a token that was revoked": {
			edit: func(f *fake) {
				f.me = &telegram.Error{Code: 401, Description: "Unauthorized"}
				f.hookErr = f.me
			}, code: 2, want: []string{"ERROR token: Telegram rejects the token (401", "-     webhook: the token is rejected"},
		},
		"too many requests": {edit: func(f *fake) { f.me = &telegram.Error{Code: 429, RetryAfter: 7} }, code: 1, want: []string{"WARN  token: not known, Telegram limits the requests of this bot (429): try again in 7s"}},
		"a proxy that does not pass on": {
			set: []string{"HTTPS_PROXY=http://10.0.0.9:3128"}, edit: func(f *fake) { f.me, f.hookErr = errSilent, errSilent }, code: 2,
			want: []string{"ERROR token: getMe is not answered (no answer in time): repair the way", "WARN  webhook: not known, getWebhookInfo is not answered (no answer in time)"},
		},
		"a backend of two copies, one up": {
			set: []string{"BACKEND=http://mybot:8000/hook?x=hunter2"}, code: 1,
			edit: func(f *fake) {
				f.names["mybot"] = []string{"10.0.1.1", "10.0.1.2"}
				f.dialErr["10.0.1.2:8000"] = errRefused
			}, want: []string{"WARN  backend http://mybot:8000: 1 of 2 addresses connect (connection refused): start the others"},
		},
		"a backend whose certificate is not trusted": {
			set: []string{"BACKEND=https://10.0.1.9/hook"}, edit: func(f *fake) {
				f.tlsErr = map[string]error{"10.0.1.9": fmt.Errorf("TLS: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})}
			}, code: 2, want: []string{"ERROR backend https://10.0.1.9:443: no connection to 1 address (its certificate is not trusted (x509: certificate signed by unknown authority)): start it, or correct BACKEND"},
		},
		"a backend with TLS": {set: []string{"BACKEND=https://10.0.1.9/hook"}},
		"one of two backends": {
			set: []string{"BACKEND=http://mybot/hook,http://10.0.1.9:1/hook"}, code: 1, want: []string{"WARN  backend http://mybot:80: its name is not resolved (there is no such name): start it, or correct BACKEND"},
		},
		"no backend": {
			set: []string{"BACKEND=http://mybot/hook,http://10.0.1.9:1/hook"}, edit: func(f *fake) { f.dialErr["10.0.1.9:1"] = errFilter }, code: 2,
			want: []string{"ERROR backend http://mybot:80", "ERROR backend http://10.0.1.9:1: no connection to 1 address (no answer in time): start it, or correct BACKEND; updates wait"},
		},
		"copies of a polling bot": {set: []string{"BACKEND=gateway"}},
		"copies, and a witness that does not know them": {
			set: []string{"BACKEND=gateway"}, edit: func(f *fake) { edit(f, first, witness) },
		},
		"a copy, and none that would take over": {
			set: []string{"BACKEND=gateway"}, edit: func(f *fake) { f.copies = copies("dead", "active", "starting", "dead") }, code: 1,
			want: []string{"WARN  copies: copy-1 is active and none stands by, so its failure stops the bot: start one that polls at :8082 with BOT_TOKEN too"},
		},
		"copies of which none polls": {
			set: []string{"BACKEND=gateway", "GATEWAY_TOKEN=" + copiesToken}, edit: func(f *fake) { f.copies = copies("dead") }, code: 1,
			want: []string{"WARN  copies: none is active, so updates wait at Telegram: start one that polls at :8082 with GATEWAY_TOKEN"},
		},
		"copies while there is no primary": {
			set: []string{"BACKEND=gateway"}, edit: func(f *fake) { f.copies = nil },
			want: []string{"-     copies: only a primary knows them, and none answers; to have copies, start one that polls at :8082 with BOT_TOKEN"},
		},
		"copies before anything runs": {
			set: []string{"BACKEND=gateway"}, edit: func(f *fake) { delete(f.names, "bot") }, code: 1,
			want: []string{"WARN  instance bot", "WARN  quorum", "-     other pollers", "-     copies: only a primary knows them, and none answers"},
		},
		"a copy behind the only replica": {
			set: []string{"BACKEND=gateway", "REPLICAS=1", "INSTANCES=10.0.0.1"}, edit: func(f *fake) {
				edit(f, first, func(r *Replica) { r.Status.Replicas, r.Status.Quorum = 1, 1 })
				f.copies = copies("active")
			}, code: 1, want: []string{"WARN  copies: this is the only replica", "WARN  copies: copy-0 is active and none stands by"},
		},
		"copies behind one replica": {
			set: []string{"BACKEND=gateway", "MODE=bot-only", "REPLICAS=1"}, code: 1, want: []string{"-     replicas", "WARN  copies: this is the only replica"},
		},
		"tight limits": {
			edit: func(f *fake) { f.limits = Limits{Descriptors: 256, Memory: 32 << 20, Processors: 0.05} }, code: 1,
			want: []string{"WARN  open files: limit 256: at least 1024", "WARN  memory: limit 32 MiB: a replica needs at least 64 MiB", "WARN  processor: limit 0.05 of a processor"},
		},
		"no limits": {edit: func(f *fake) { f.limits = Limits{} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := well()
			if c.edit != nil {
				c.edit(f)
			}
			lines := Examine(t.Context(), options(t, c.set...), f)
			bad := slices.DeleteFunc(texts(lines), func(l string) bool { return strings.HasPrefix(l, "OK ") })
			right := len(bad) == len(c.want)
			for i := range min(len(bad), len(c.want)) {
				right = right && strings.HasPrefix(bad[i], c.want[i])
			}
			if !right {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(bad, "\n"), strings.Join(c.want, "\n"))
			}
			var out strings.Builder
			if code := Write(&out, lines); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Errorf("a password is shown:\n%s", out.String())
			}
		})
	}
}

func TestAWitnessIsNamedOne(t *testing.T) {
	t.Parallel()
	f := well()
	r := f.replicas["10.0.0.1:7175"]
	witness(&r)
	f.replicas["10.0.0.1:7175"] = r
	lines := texts(Examine(t.Context(), options(t, "WITNESS=true", "CLUSTER_SECRET="+clusterSecret), f))
	for _, want := range []string{
		"OK    configuration: accepted; this is a witness: it votes, never is primary, and needs no token",
		"OK    replica 10.0.0.1:7175: a, witness, version 1.2.3, round trip 2 ms",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestTheLastLineCounts(t *testing.T) {
	t.Parallel()
	e, w, s := failure("a", "x"), warning("b", "y"), skipped("c", "z")
	for want, lines := range map[string][]Line{
		"nothing is wrong": {s}, "1 warning": {w}, "2 warnings": {w, w, s}, "1 error, 0 warnings": {e}, "2 errors, 1 warning": {e, w, e},
	} {
		var out strings.Builder
		if Write(&out, lines); !strings.HasSuffix(out.String(), "\n\n"+want+"\n") {
			t.Errorf("want %q:\n%s", want, out.String())
		}
	}
}

// A line's meaning is that of its level, and one error outweighs any number of warnings.
func TestTheExitCodeIsThatOfTheWorstLine(t *testing.T) {
	t.Parallel()
	fine, e, w, s := ok("x", "x"), failure("a", "x"), warning("b", "y"), skipped("c", "z")
	for want, all := range map[int][][]Line{0: {nil, {fine}, {s, fine}}, 1: {{w}, {fine, w, s}, {w, w}}, 2: {{e}, {w, e, w}, {e, e, fine}}} {
		for _, lines := range all {
			var out strings.Builder
			if code := Write(&out, lines); code != want {
				t.Errorf("exit code %d, want %d:\n%s", code, want, out.String())
			}
		}
	}
}

// A configuration that is refused leaves nothing to ask; files and limits are examined all the same.
func TestARefusedConfigurationIsALineForEachProblem(t *testing.T) {
	t.Parallel()
	f := well()
	f.fileErr["/run/secrets/bot_token"] = &fs.PathError{Op: "open", Path: "/run/secrets/bot_token", Err: syscall.EACCES}
	lines := Examine(t.Context(), Options{
		Problems: config.Problems{"LEASE is wrong", "BOT_TOKEN_FILE is not accepted"}, Files: []config.SecretFile{{Variable: "BOT_TOKEN_FILE", Path: "/run/secrets/bot_token"}},
	}, f)
	want := []string{
		"ERROR configuration: LEASE is wrong", "ERROR configuration: BOT_TOKEN_FILE is not accepted",
		"ERROR BOT_TOKEN_FILE: the file cannot be read (permission denied): give it to the user 65532, or make it readable for all (chmod 0444)",
	}
	if got := texts(lines); len(got) != 6 || !slices.Equal(got[:3], want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestFilesOfSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		variable string
		file     File
		err      error
		want     string
	}{
		"sound":              {file: File{Content: []byte("secret")}, want: "OK    ADMIN_TOKEN_FILE: readable"},
		"a line end":         {file: File{Content: []byte("secret\n")}, want: "OK    ADMIN_TOKEN_FILE: readable; the line end after the secret is ignored"},
		"a backend's":        {variable: "BACKEND_SECRET_FILE", file: File{Content: []byte("secret\n")}, want: "WARN  BACKEND_SECRET_FILE: the file ends with a line end or a space, which habot does not send"},
		"Windows":            {file: File{Content: []byte("secret\r\n")}, want: "WARN  ADMIN_TOKEN_FILE: the file has a line end of Windows (CR LF)"},
		"a mark":             {file: File{Content: []byte("\ufeffsecret")}, want: "WARN  ADMIN_TOKEN_FILE: the file begins with a byte order mark"},
		"empty":              {file: File{Content: []byte("\n")}, want: "ERROR ADMIN_TOKEN_FILE: the file is empty"},
		"this user's alone":  {file: File{Content: []byte("secret"), Judged: true}, want: "ERROR ADMIN_TOKEN_FILE: this user reads the file, and the replicas' user 65532 does not"},
		"all users":          {file: File{Content: []byte("secret"), Judged: true, ByReplicas: true}, want: "OK    ADMIN_TOKEN_FILE: readable"},
		"not there":          {err: &fs.PathError{Op: "stat", Path: "hunter2", Err: syscall.ENOENT}, want: "ERROR ADMIN_TOKEN_FILE: there is no such file here: mount it"},
		"a folder of Docker": {err: errNoFile, want: "ERROR ADMIN_TOKEN_FILE: the file cannot be read (it is no file); a folder of its name is what Docker makes"},
		"another trouble":    {err: &fs.PathError{Op: "stat", Path: "hunter2", Err: syscall.ENAMETOOLONG}, want: "ERROR ADMIN_TOKEN_FILE: the file cannot be read (file name too long)"},
	} {
		f := well()
		f.files["p"], f.fileErr["p"] = c.file, c.err
		opts := options(t)
		if c.variable == "" {
			c.variable = "ADMIN_TOKEN_FILE"
		}
		opts.Files = []config.SecretFile{{Variable: c.variable, Path: "p"}}
		if got := Examine(t.Context(), opts, f)[1].String(); !strings.HasPrefix(got, c.want) || strings.Contains(got, "hunter2") || strings.Contains(got, "secret\n") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever hangs, an examination ends, and each line states that nothing answered.
func TestAnExaminationIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := well()
		f.stuck = true
		begun := time.Now()
		lines := Examine(t.Context(), options(t, "INSTANCES=10.0.0.1,one.example.org", "BACKEND=http://mybot/hook"), f)
		if took := time.Since(begun); took > bound {
			t.Errorf("it took %v", took)
		}
		for _, l := range lines {
			if l.Subject == "quorum" && l.Level != Error {
				t.Errorf("%s", l)
			}
			if (strings.HasPrefix(l.Subject, "instance one") || strings.HasPrefix(l.Subject, "replica") || strings.HasPrefix(l.Subject, "backend ") || strings.HasPrefix(l.Subject, "Telegram")) &&
				(l.Level != Error || !strings.Contains(l.Text, "no answer in time")) {
				t.Errorf("%s", l)
			}
		}
		if len(lines) != 14 {
			t.Errorf("%d lines:\n%s", len(lines), strings.Join(texts(lines), "\n"))
		}
	})
}

// Other machines choose names, reasons and hosts. What they send is one line, and no secret of ours.
func TestLinesAreCleanWhateverOthersSend(t *testing.T) {
	t.Parallel()
	opts := options(t, "CLUSTER_SECRET="+clusterSecret, "ADMIN_TOKEN=an-admin-password", "BACKEND=http://10.0.1.9/", "BACKEND_SECRET=a-backend-secret", "HTTPS_PROXY=http://u:hunter22@10.0.0.9:1",
		"GATEWAY_TOKEN="+copiesToken)
	secrets := []string{testToken, testToken[7:], copiesToken, copiesToken[7:], clusterSecret, "an-admin-password", "a-backend-secret", "hunter22", opts.Config.OperatorKey}
	all := strings.Join(secrets, " \n\x1b[2J ") + strings.Repeat("ä", 500)
	f := well()
	r := f.replicas["10.0.0.1:7175"]
	r.Status.Name, r.Status.Version, r.Status.Health = all, all, election.Health{Detail: all}
	f.replicas["10.0.0.1:7175"] = r
	f.askErr["10.0.0.2:7175"] = errors.New(all)
	f.me, f.hook = errors.New(all), Webhook{Host: all}
	for _, l := range Examine(t.Context(), opts, f) {
		for _, s := range secrets {
			if strings.Contains(l.String(), s) {
				t.Errorf("%q is in %q", s, l)
			}
		}
		if strings.ContainsAny(l.String(), "\n\x1b") || len(l.String()) > 600 || !strings.Contains(l.String(), ": ") {
			t.Errorf("no clean line: %q", l)
		}
	}
}

func TestTheProxysPortIsItsSchemes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"http://h": "80", "https://h": "443", "socks5://h": "1080", "socks5h://h": "1080", "http://h:3128": "3128"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := proxyPort(u); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestACopyOfABackendMayHaveManyAddresses(t *testing.T) {
	t.Parallel()
	backends, err := relay.ParseBackends("http://mybot:8000/hook")
	if err != nil {
		t.Fatal(err)
	}
	f := well()
	for i := range 100 {
		f.names["mybot"] = append(f.names["mybot"], fmt.Sprintf("10.1.0.%d", i))
	}
	if l := (examination{Probes: f}).backend(t.Context(), backends[0]); l.Text != "32 of 32 addresses connect" {
		t.Errorf("%s", l)
	}
}
