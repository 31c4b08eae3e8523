package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"habot/app/config"
	"habot/app/diagnosis"
	"habot/app/gateway"
	"habot/app/relay"
	"habot/app/telegram"
)

// examination is what all checks share.
type examination struct {
	Options
	Probes
	// resolved are the instances, resolved once for all checks.
	resolved func() (lines []Line, addrs []string)
}

func ok(subject, format string, args ...any) Line {
	return Line{OK, subject, fmt.Sprintf(format, args...)}
}

func skipped(subject, format string, args ...any) Line {
	return Line{Skipped, subject, fmt.Sprintf(format, args...)}
}

func warning(subject, format string, args ...any) Line {
	return Line{Warning, subject, fmt.Sprintf(format, args...)}
}

func failure(subject, format string, args ...any) Line {
	return Line{Error, subject, fmt.Sprintf(format, args...)}
}

// inParallel is f of each of n, in their order.
func inParallel[T any](n int, f func(i int) T) []T {
	all := make([]T, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { all[i] = f(i) })
	}
	running.Wait()
	return all
}

func (e examination) configuration(context.Context) []Line {
	var lines []Line
	for _, p := range e.Problems {
		lines = append(lines, failure("configuration", "%s", p))
	}
	if len(lines) > 0 {
		return lines
	}
	for _, w := range e.Config.Warnings {
		lines = append(lines, warning("configuration", "%s", w))
	}
	if len(lines) > 0 {
		return lines
	}
	if e.Config.Witness {
		return []Line{ok("configuration", "accepted; this is a witness: it votes, never is primary, and needs no token")}
	}
	if e.Config.Demo {
		return []Line{ok("configuration", "BOT_TOKEN is not set: this is the demo")}
	}
	return []Line{ok("configuration", "accepted")}
}

// files examines the files of secrets. No line has a path: it may be a secret that was put in the wrong variable.
func (e examination) files(context.Context) []Line {
	lines := make([]Line, 0, len(e.Files))
	for _, f := range e.Files {
		file, err := e.File(f.Path)
		if err != nil {
			lines = append(lines, unreadable(f.Variable, err))
			continue
		}
		lines = append(lines, secretFile(f.Variable, file))
	}
	return lines
}

func unreadable(variable string, err error) Line {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return failure(variable, "the file cannot be read (%s): give it to the user 65532, or make it readable for all (chmod 0444)", reason(err))
	case errors.Is(err, fs.ErrNotExist):
		return failure(variable, "there is no such file here: mount it into the container (secrets: or volumes: in a docker-compose.override.yml)")
	default:
		return failure(variable, "the file cannot be read (%s); a folder of its name is what Docker makes where the file to mount is missing", reason(err))
	}
}

func secretFile(variable string, f File) Line {
	text := bytes.TrimPrefix(f.Content, []byte("\ufeff"))
	trimmed := bytes.TrimSpace(text)
	end := text[len(bytes.TrimRight(text, " \t\r\n")):]
	switch {
	case len(trimmed) == 0:
		return failure(variable, "the file is empty")
	case f.Judged && !f.ByReplicas:
		return failure(variable, "this user reads the file, and the replicas' user 65532 does not: give it to that user, or make it readable for all (chmod 0444)")
	case len(text) < len(f.Content):
		return warning(variable, "the file begins with a byte order mark, which habot ignores and other programs may not: save it as UTF-8 without one")
	case bytes.ContainsRune(end, '\r'):
		return warning(variable, "the file has a line end of Windows (CR LF), which habot ignores and other programs may not: write it with printf")
	case len(end) > 0 && variable == "BACKEND_SECRET_FILE":
		return warning(variable, "the file ends with a line end or a space, which habot does not send: your bot has to ignore it too; write it with printf")
	case len(end) > 0:
		return ok(variable, "readable; the line end after the secret is ignored")
	default:
		return ok(variable, "readable")
	}
}

func (e examination) lifelines(ctx context.Context) []Line {
	const subject = "lifelines"
	switch {
	case e.Config.Mode == config.ModeBotOnly:
		return nil
	case e.Config.LifelineDir == "":
		return []Line{skipped(subject, "LIFELINE_DIR is empty: after a crash the lease decides")}
	}
	n, err := e.Lifelines(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return []Line{skipped(subject, "known on Linux alone")}
	case errors.Is(err, fs.ErrNotExist):
		return []Line{warning(subject, "LIFELINE_DIR does not exist here, so after a crash the lease decides: mount one volume there in all replicas of this machine, or set LIFELINE_DIR to nothing")}
	case err != nil:
		return []Line{warning(subject, "LIFELINE_DIR cannot be used (%s), so after a crash the lease decides: the user 65532 has to be allowed to write there, and SELinux to connect (app/service/OPERATING.md, Lifelines)", reason(err))}
	default:
		return []Line{ok(subject, "LIFELINE_DIR can be used, %s in it", plural(n, "socket"))}
	}
}

// telegram examines the way to Telegram from the outside in. Where a step fails, those behind it are skipped.
func (e examination) telegram(ctx context.Context) []Line {
	if e.Config.Witness {
		return []Line{skipped("Telegram", "a witness has no way there")}
	}
	api, err := url.Parse(e.Config.APIURL)
	if err != nil {
		return []Line{failure("Telegram", "TELEGRAM_API_URL cannot be read")} // config has refused it
	}
	host, port, serverName := api.Hostname(), api.Port(), ""
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[api.Scheme]
	}
	if api.Scheme == "https" {
		serverName = host
	}
	subject, advice := "Telegram's address "+net.JoinHostPort(host, port), "let TCP port "+port+" out of this network, or set HTTPS_PROXY"
	if proxy := e.Config.Proxy; proxy != nil {
		host, port, serverName = proxy.Hostname(), proxyPort(proxy), ""
		if proxy.Scheme == "https" {
			serverName = host
		}
		subject, advice = "proxy "+proxy.Scheme+"://"+net.JoinHostPort(host, port), "correct HTTPS_PROXY, or start the proxy"
	}
	if e.Config.Demo && e.Config.Proxy == nil {
		advice = "start the simulator: docker compose up -d"
	}
	way, gone := e.way(ctx, subject, advice, host, port, serverName)
	if way.Level == Error {
		if e.Config.Demo && gone { // the simulator starts with the replicas
			way.Level = Warning
		}
		return []Line{way, skipped("token", "Telegram is not reached"), skipped("webhook", "Telegram is not reached")}
	}
	both := inParallel(2, func(i int) Line {
		if i == 0 {
			return e.token(ctx)
		}
		return e.webhook(ctx)
	})
	return append([]Line{way}, both...)
}

// portOf reads a port.
func portOf(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("read a port: %w", err)
	}
	return uint16(n), nil
}

func proxyPort(proxy *url.URL) string {
	if port := proxy.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[proxy.Scheme] + map[string]string{"socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
}

// way examines name, address families, connections and TLS of the first hop. gone means that nothing is there that could
// answer.
func (e examination) way(ctx context.Context, subject, advice, host, port, serverName string) (l Line, gone bool) {
	addrs, err := e.Resolve(ctx, host)
	switch {
	case err != nil && unknownYet(host, err):
		return failure(subject, "%s: %s", reason(err), advice), true
	case err != nil:
		return failure(subject, "its name is not resolved (%s): repair the name servers of this machine or container", reason(err)), false
	}
	number, err := portOf(port)
	if err != nil {
		return failure(subject, "its port cannot be read"), false
	}
	families := firstOfEach(addrs)
	tries := inParallel(len(families), func(i int) try {
		took, err := e.Dial(ctx, netip.AddrPortFrom(families[i], number), serverName)
		return try{family(families[i]), took, err}
	})
	var texts []string
	connected, refused, slow := 0, 0, false
	for _, t := range tries {
		texts = append(texts, t.String())
		switch {
		case t.err == nil:
			connected++
		case absent(t.err):
			refused++
		}
		slow = slow || t.err != nil && !noRoute(t.err)
	}
	text := strings.Join(texts, "; ")
	switch {
	case connected == 0:
		return failure(subject, "no connection (%s): %s", text, advice), refused == len(tries)
	case slow:
		return warning(subject, "%s: requests use the other family, some of them after a delay; repair the one that fails, or disable it", text), false
	default:
		return ok(subject, "%s", text), false
	}
}

// try is a connection over one address family.
type try struct {
	family string
	took   time.Duration
	err    error
}

// String is how it went.
func (t try) String() string {
	switch {
	case t.err == nil:
		return fmt.Sprintf("%s connects in %s", t.family, span(t.took))
	case noRoute(t.err):
		return t.family + " is not available here"
	default:
		return fmt.Sprintf("%s fails: %s", t.family, reason(t.err))
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// firstOfEach is the first address of each family, IPv4 first.
func firstOfEach(addrs []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	return append(four[:min(len(four), 1)], six[:min(len(six), 1)]...)
}

func (e examination) token(ctx context.Context) Line {
	const subject = "token"
	name, err := e.Me(ctx)
	if err == nil {
		return ok(subject, "accepted, the bot is @%s", name)
	}
	switch telegram.Judge(ctx, err) {
	case telegram.Unauthorized:
		return failure(subject, "%s: copy it from @BotFather into BOT_TOKEN", diagnosis.TroubleToken.Text())
	case telegram.Limited:
		return warning(subject, "not known, Telegram limits the requests of this bot (429): try again in %s", telegram.RetryAfter(err))
	default:
		return failure(subject, "getMe is not answered (%s): repair the way to Telegram", reason(err))
	}
}

func (e examination) webhook(ctx context.Context) Line {
	const subject = "webhook"
	hook, err := e.Webhook(ctx)
	switch {
	case err != nil && telegram.Judge(ctx, err) == telegram.Unauthorized:
		return skipped(subject, "the token is rejected")
	case err != nil:
		return warning(subject, "not known, getWebhookInfo is not answered (%s)", reason(err))
	case hook.Host != "":
		return warning(subject, "one is set, to %s: a replica that becomes primary deletes it once and keeps the %s that wait; stop what sets it", hook.Host, plural(hook.Pending, "update"))
	default:
		return ok(subject, "none is set; %s waiting", plural(hook.Pending, "update"))
	}
}

func (e examination) backends(ctx context.Context) []Line {
	if e.Config.Witness {
		return nil // for the same reason
	}
	if e.Config.Gateway {
		return e.copies(ctx)
	}
	if len(e.Config.Backends) == 0 {
		return []Line{ok("backends", "none configured: the built-in bot handles updates")}
	}
	lines := inParallel(len(e.Config.Backends), func(i int) Line { return e.backend(ctx, e.Config.Backends[i]) })
	for _, l := range lines {
		if l.Level != Error {
			for i := range lines { // updates go to those that are there
				lines[i].Level = min(lines[i].Level, Warning)
			}
			break
		}
	}
	return lines
}

// copies examines the copies of a polling bot: the primary knows them, and each replica asks it. That the number before the colon of their
// token is the real token's is the configuration's matter, and that enough replicas answer the quorum's.
func (e examination) copies(ctx context.Context) []Line {
	const subject = "copies"
	var lines []Line
	if e.Config.Mode == config.ModeBotOnly || e.Config.Replicas == 1 {
		lines = append(lines, warning(subject, "this is the only replica: its failure stops the bot, however many copies poll; set REPLICAS=3"))
	}
	if e.Config.Mode == config.ModeBotOnly {
		return lines // it answers no other process
	}
	token := "GATEWAY_TOKEN"
	if e.Config.GatewayToken == e.Config.Token {
		token = "BOT_TOKEN"
	}
	start := fmt.Sprintf("start one that polls at %s with %s", e.Config.GatewayAddr, token)
	_, addrs := e.resolved()
	all := inParallel(len(addrs), func(i int) *gateway.Snapshot {
		s, err := e.Copies(ctx, addrs[i])
		if err != nil {
			return nil // the replica's own line says why, if it does not answer at all
		}
		return &s
	})
	i := slices.IndexFunc(all, func(s *gateway.Snapshot) bool { return s != nil })
	if i < 0 {
		return append(lines, skipped(subject, "only a primary knows them, and none answers; to have copies, %s", start))
	}
	switch s := all[i]; {
	case s.Active == "":
		return append(lines, warning(subject, "none is active, so updates wait at Telegram: %s", start))
	case s.Standby() == 0:
		return append(lines, warning(subject, "%s is active and none stands by, so its failure stops the bot: %s too", s.Active, start))
	default:
		return append(lines, ok(subject, "%s is active, %d standing by", s.Active, s.Standby()))
	}
}

// maxCopies bounds the addresses of a backend that are tried.
const maxCopies = 32

func (e examination) backend(ctx context.Context, b relay.Backend) Line {
	subject := "backend " + b.Name()
	host, port := b.Addr()
	addrs, err := e.Resolve(ctx, host)
	if err != nil {
		return failure(subject, "its name is not resolved (%s): start it, or correct BACKEND; updates wait at Telegram meanwhile", reason(err))
	}
	number, err := portOf(port)
	if err != nil {
		return failure(subject, "its port cannot be read") // relay has refused it
	}
	addrs = addrs[:min(len(addrs), maxCopies)]
	failures := inParallel(len(addrs), func(i int) error {
		_, err := e.Dial(ctx, netip.AddrPortFrom(addrs[i], number), b.TLSName()) // nothing is sent
		return err
	})
	up, last := 0, error(nil)
	for _, err := range failures {
		if err == nil {
			up++
		} else {
			last = err
		}
	}
	switch {
	case up == 0:
		return failure(subject, "no connection to %s (%s): start it, or correct BACKEND; updates wait at Telegram meanwhile", plural(len(addrs), "address"), reason(last))
	case up < len(addrs):
		return warning(subject, "%d of %d addresses connect (%s): start the others", up, len(addrs), reason(last))
	default:
		return ok(subject, "%d of %d addresses connect", up, len(addrs))
	}
}

// Below these limits a line warns. A replica is meant to use 30 MiB, and was tested with a tenth of a processor;
// 512 connections of other replicas and those to Telegram and backends need descriptors.
const (
	leastDescriptors = 1024
	leastMemory      = 64 << 20
	leastProcessors  = 0.1
)

func (e examination) limits(context.Context) []Line {
	l := e.Limits()
	descriptors, memory, processors := ok("open files", "no limit known"), ok("memory", "no limit here"), ok("processor", "no limit here")
	switch {
	case l.Descriptors >= leastDescriptors:
		descriptors.Text = fmt.Sprintf("limit %d", l.Descriptors)
	case l.Descriptors > 0:
		descriptors = warning("open files", "limit %d: at least %d are needed with many replicas; raise it (ulimits: in docker-compose.override.yml)", l.Descriptors, leastDescriptors)
	}
	switch {
	case l.Memory >= leastMemory:
		memory.Text = fmt.Sprintf("limit %d MiB", l.Memory>>20)
	case l.Memory > 0:
		memory = warning("memory", "limit %d MiB: a replica needs at least %d MiB; raise deploy.resources.limits.memory", l.Memory>>20, leastMemory>>20)
	}
	switch {
	case l.Processors >= leastProcessors:
		processors.Text = fmt.Sprintf("limit %.4g processors", l.Processors)
	case l.Processors > 0:
		processors = warning("processor", "limit %.4g of a processor: less than %.4g has not been tested, and a lease may expire while its replica waits for the processor; raise deploy.resources.limits.cpus, or LEASE", l.Processors, leastProcessors)
	}
	return []Line{descriptors, memory, processors}
}
